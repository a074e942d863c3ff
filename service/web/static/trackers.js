// Names of the trackers that a job or a session may ask for, as in PRESETS of vision/tracking/config.py.

export const TRACKERS = [
  ["", "the server's own"], ["deepsort", "DeepSORT"], ["sort", "SORT"], ["bytetrack", "ByteTrack"], ["ocsort", "OC-SORT"],
  ["strongsort", "StrongSORT"], ["botsort", "BoT-SORT"], ["stride32", "Stride32"],
];
