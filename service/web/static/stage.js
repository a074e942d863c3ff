// A canvas that shows a picture with what was found on it: fitted to its stage, sharp on dense screens.

import { cssColour, inkOn } from "./palette.js";

const LARGEST_ENLARGEMENT = 3;
const SHARE_OF_WINDOW = 0.72;

export class Stage {
  /** Draws onto `canvas`, which is fitted into `frame`; `redraw` is called when the room for it changes. */
  constructor(frame, canvas, redraw) {
    this.frame = frame;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.width = 0;
    this.height = 0;
    new ResizeObserver(() => {
      if (!this.canvas.hidden && this._room() !== this.room) redraw();
    }).observe(frame);
  }

  /** Take the size of a picture in its own pixels, which all coordinates refer to, and clear the canvas. */
  begin(width, height) {
    this.canvas.hidden = false;
    this.room = this._room();
    this.width = width;
    this.height = height;
    const fit = Math.min(this.room / width, (window.innerHeight * SHARE_OF_WINDOW) / height, LARGEST_ENLARGEMENT);
    const density = window.devicePixelRatio || 1;
    const shown = [Math.max(1, Math.round(width * fit)), Math.max(1, Math.round(height * fit))];
    const pixels = shown.map((side) => Math.round(side * density));
    if (this.canvas.width !== pixels[0] || this.canvas.height !== pixels[1]) {
      [this.canvas.width, this.canvas.height] = pixels;
      this.canvas.style.width = `${shown[0]}px`;
      this.canvas.style.height = `${shown[1]}px`;
    }
    this.scale = pixels[0] / width;
    this.unit = density;
    this.context.clearRect(0, 0, ...pixels);
  }

  /** Draw a picture, or a mask above one, over the whole canvas. */
  picture(source, { smooth = true } = {}) {
    this.context.imageSmoothingEnabled = smooth;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(source, 0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draw boxes {box: [x1, y1, x2, y2], text, colour: [r, g, b], dashed, strong, faint}. */
  boxes(items) {
    for (const item of items) this._outline(item);
    // Labels lie above all boxes, so that none is crossed out by a neighbour.
    const taken = [];
    for (const item of items) if (item.text && !item.faint) this._label(item, taken);
    this.context.globalAlpha = 1;
  }

  /** Draw a line through points [[x, y], ...], thinner where it is older. */
  trail(points, colour) {
    const { context, scale, unit } = this;
    context.strokeStyle = cssColour(colour);
    context.lineCap = "round";
    for (let at = 1; at < points.length; at += 1) {
      context.globalAlpha = 0.15 + (0.75 * at) / points.length;
      context.lineWidth = (1 + (2 * at) / points.length) * unit;
      context.beginPath();
      context.moveTo(points[at - 1][0] * scale, points[at - 1][1] * scale);
      context.lineTo(points[at][0] * scale, points[at][1] * scale);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  _outline({ box, colour, dashed = false, strong = false, faint = false }) {
    const { context, scale, unit } = this;
    const [x1, y1, x2, y2] = box.map((value) => value * scale);
    context.globalAlpha = faint ? 0.3 : 1;
    context.setLineDash(dashed ? [6 * unit, 4 * unit] : []);
    // A dark line beneath keeps the colour visible on a ground of the same colour.
    for (const [width, style] of [[strong ? 6 : 4, "rgb(12 18 20 / 0.55)"], [strong ? 3.5 : 2, cssColour(colour)]]) {
      context.lineWidth = width * unit;
      context.strokeStyle = style;
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
    context.setLineDash([]);
    if (!strong) return;
    context.fillStyle = cssColour(colour);
    context.globalAlpha = 0.18;
    context.fillRect(x1, y1, x2 - x1, y2 - y1);
  }

  /** Write a label above its box, or where one that was written before leaves room; `taken` holds their rectangles. */
  _label({ box, text, colour }, taken) {
    const { context, scale, unit, canvas } = this;
    const size = 12 * unit;
    context.globalAlpha = 1;
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const wide = context.measureText(text).width + 10 * unit;
    const tall = size + 6 * unit;
    const left = Math.max(0, Math.min(box[0] * scale - unit, canvas.width - wide));
    const places = [box[1] * scale - tall, box[1] * scale, box[3] * scale - tall, box[1] * scale + tall]
      .map((top) => Math.max(0, Math.min(top, canvas.height - tall)));
    const isFree = (top) => taken.every(([x, y, w]) => left >= x + w || left + wide <= x || top >= y + tall || top + tall <= y);
    const top = places.find(isFree) ?? places[0];
    taken.push([left, top, wide]);
    context.fillStyle = cssColour(colour);
    context.fillRect(left, top, wide, tall);
    context.fillStyle = inkOn(colour);
    context.fillText(text, left + 5 * unit, top + tall / 2 + unit / 2);
  }

  _room() {
    const style = getComputedStyle(this.frame);
    return Math.max(64, this.frame.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
  }
}
