"""How large a described network may be. Each is far above what one probe can measure, and low
enough that a hostile spec is refused before it costs time."""

MAX_LAYERS = 20_000
"""Layers after expansion: the deepest published plain nets have 10,000."""
MAX_NESTING = 16
"""Groups within groups."""
MAX_INPUTS = 256
"""Inputs of one merge; a DenseNet block joins about 50."""
MAX_PARAMETERS = 2_000_000_000
"""Numbers to learn: 8 GB of float32, more than a probe's memory."""
MAX_PARAMETER_TENSORS = 50_000
"""Weights and biases, each counted once: two for every layer and some to spare."""
MAX_ELEMENTS = 100_000_000
"""Numbers in one layer's output for one sample: 400 MB of float32."""
MAX_DIMENSIONS = 8
"""Dimensions of a sample; (channels, depth, height, width) are four."""
MAX_INIT_KEYS = 64
"""Keys in one `init`; a TransformerDecoderLayer has 18 parameters."""
