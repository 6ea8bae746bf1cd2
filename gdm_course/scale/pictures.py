"""Pictures with their labels, for models that learn with and without."""

from gdm_course.scale.data import Splits


def labelled_codes(name: str) -> Splits:
    """Load images as codes with labels to train on: (x, y), and x alone to measure.

    Codes 0 to levels - 1, uint8 (N, C, H, W); labels (N,).
    """
    from gdm_course.data import images

    data = images.load(name)
    train = (data.x_train, data.y_train)
    return Splits(train, data.x_valid, data.x_test, data.source)
