"""What each score of tracks means, in a line."""

from __future__ import annotations

MEANINGS = {
    "HOTA": "root of DetA x AssA: finding and keeping objects weigh the same; mean over 19 overlaps",
    "DetA": "found boxes / (found + missed + false)",
    "AssA": "how well a found box's object and result stay together over the whole sequence",
    "LocA": "mean overlap of the matched boxes; 100 where nothing is matched",
    "DetRe": "share of the objects' boxes that are found",
    "DetPr": "share of the results' boxes that are right",
    "AssRe": "share of an object's boxes that its result covers; low where objects change ids",
    "AssPr": "share of a result's boxes that stay on one object; low where a result joins objects",
    "MOTA": "1 - (missed + false + switches) / objects' boxes, at overlap 0.5; below 0 with many false boxes",
    "MOTP": "mean overlap of the matches at overlap 0.5",
    "IDF1": "share of boxes with the right identity when each object has one result, at overlap 0.5",
    "IDR": "the same of the objects' boxes",
    "IDP": "the same of the results' boxes",
    "IDSW": "times that an object is followed by another id than before",
    "Frag": "times that an object is followed again after it was not",
    "MT": "objects followed in more than 80 % of their frames, whatever the id",
    "PT": "objects in between",
    "ML": "objects followed in less than 20 % of their frames",
    "FP": "result boxes on no object",
    "FN": "objects' boxes without a result",
    "GT": "objects' boxes that were scored",
}
