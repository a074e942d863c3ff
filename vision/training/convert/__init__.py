"""Writing detection data in COCO, VOC and YOLO form: one module a format, and the conversion that drives them."""
