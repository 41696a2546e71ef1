"""Published weights into Flax variables: timm's safetensors and Keras Applications' HDF5.

    config = pretrained.resolve(config)  # fills what is left to the checkpoint
    published = pretrained.find(config.model)  # on the disk, downloaded where it wasn't
    variables, report = pretrained.load(published, variables)

- `resolve(config: ConfigDict) -> ConfigDict` gives `config.model.variant`, `config.normalize` and
  `config.data.image_size` their values where they are left open. A config with nothing open comes
  back as it is, without a look at the network or the disk.
- `follow(config, resolved) -> ConfigDict` fills them from an earlier run's config, for resuming.
- `find(model: ConfigDict) -> Published` takes `config.model`, whose `pretrained` is
  "owner/repo[@revision]", a .safetensors or .h5 file, or a folder with model.safetensors and
  config.json. A lone .safetensors is taken for `model.name` and `model.variant` ("": timm).
- `load(published: Published, variables, *, with_head=False) -> (variables, Report)`: `variables`
  has 'params' and 'batch_stats' as `Classifier.init` gives them (arrays or only their shapes); the
  leaves of 'backbone' come back as float32 NumPy arrays, all else as it was. `with_head=True` also
  fills a head that is one dense layer, where the shapes agree.

A family's module is asked for `timm_architecture(architecture)`, `timm_name(layer)`, and
`keras_name(layer)` where Keras has weights for it. An optional `adapt(leaf_path, array, shape)`
is called where a tensor, already in Flax's order of axes, has another shape than the parameter:
`leaf_path` is inside the backbone ("stem/pos_embed"), and it returns the array in `shape`, or as
it was where it can't.

Nothing here opens pickle. `skinjax.models` doesn't import this package, which imports it.
"""

from skinjax.models.pretrained.loading import Report, load
from skinjax.models.pretrained.published import Published, find
from skinjax.models.pretrained.resolution import follow, resolve, warn_of_differences

__all__ = ["Published", "Report", "find", "follow", "load", "resolve", "warn_of_differences"]
