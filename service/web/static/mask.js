// Label maps as they travel in JSON (run lengths along rows), and their colours as a picture with transparency.

const LONGEST_SIDE = 1280;

/** Return {width, height, labels} of run lengths, thinned to at most 1280 pixels a side: enough for any screen. */
export function decodeRuns({ size_hw: [height, width], values, lengths }) {
  const whole = new Int32Array(width * height);
  let at = 0;
  for (let run = 0; run < values.length; run += 1) {
    whole.fill(values[run], at, at + lengths[run]);
    at += lengths[run];
  }
  const step = Math.max(1, Math.ceil(Math.max(width, height) / LONGEST_SIDE));
  if (step === 1) return { width, height, labels: whole };
  const [wide, tall] = [Math.ceil(width / step), Math.ceil(height / step)];
  const labels = new Int32Array(wide * tall);
  for (let row = 0; row < tall; row += 1) {
    for (let column = 0; column < wide; column += 1) labels[row * wide + column] = whole[row * step * width + column * step];
  }
  return { width: wide, height: tall, labels };
}

/**
 * Return a canvas with the classes in their colours. Areas have the given opacity, 0 to 1, their borders are full lines;
 * hidden classes and those without a colour stay clear.
 */
export function maskPicture({ width, height, labels }, colours, hidden, opacity) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const [area, line] = [opacity, opacity > 0 ? 1 : 0].map((alpha) =>
    colours.map((colour, label) => (colour && !hidden.has(label) ? packed(colour, alpha) : 0)));
  for (let row = 0, at = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1, at += 1) {
      const label = labels[at];
      const border = (column + 1 < width && labels[at + 1] !== label) || (row + 1 < height && labels[at + width] !== label);
      pixels[at] = (border ? line : area)[label] ?? 0;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Return one RGBA pixel as the 32-bit number that canvases keep; they are little-endian wherever browsers run. */
function packed([red, green, blue], alpha) {
  return ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
