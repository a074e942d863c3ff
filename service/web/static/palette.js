// Colours of classes and tracks; the same as in vision/palette.py, which a test compares.

export const PALETTE_RGB = [
  [255, 64, 64], [0, 190, 255], [255, 200, 0], [150, 80, 255], [60, 220, 90], [255, 90, 200],
  [0, 110, 255], [255, 130, 30], [0, 215, 180], [200, 160, 255], [180, 220, 40], [190, 70, 90],
];
export const STREET_RGB = {
  "sky": [90, 165, 235], "building": [165, 100, 60], "pole": [245, 235, 205], "road": [128, 64, 150],
  "pavement": [244, 60, 220], "tree": [90, 150, 35], "sign": [255, 220, 0], "fence": [255, 145, 60],
  "car": [40, 60, 235], "pedestrian": [235, 20, 50], "bicyclist": [0, 215, 205],
};
export const NO_CLASS = ["background", "other", "void", "unlabelled"];

/** Return the colour of each class of a segmentation, null for background and "other". */
export function maskColours(classNames) {
  let free = 0;
  return classNames.map((name) => {
    if (NO_CLASS.includes(name)) return null;
    return STREET_RGB[name] ?? PALETTE_RGB[free++ % PALETTE_RGB.length];
  });
}

/** Return the colour of a label or a track id. */
export const colourOf = (number) => PALETTE_RGB[((number % PALETTE_RGB.length) + PALETTE_RGB.length) % PALETTE_RGB.length];

export const cssColour = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/** Return the text colour that reads better on a colour (luma of ITU-R BT.601). */
export const inkOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#10171a" : "#ffffff");
