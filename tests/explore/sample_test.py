"""The sample: bounded, the same every time, and its colours right."""

import numpy as np

from skinjax.explore import sample


def test_draws_at_most_so_many_of_each_class():
    label_N = np.array([0] * 50 + [2] * 3)
    index_C = sample.draw_sample(label_N, 3, per_class=10, seed=0)
    assert [len(index_n) for index_n in index_C] == [10, 0, 3]
    assert len(set(index_C[0].tolist())) == 10
    assert set(index_C[0].tolist()) <= set(range(50))
    assert set(index_C[2].tolist()) == {50, 51, 52}
    again_C = sample.draw_sample(label_N, 3, per_class=10, seed=0)
    other_C = sample.draw_sample(label_N, 3, per_class=10, seed=1)
    np.testing.assert_array_equal(index_C[0], again_C[0])
    assert index_C[0].tolist() != other_C[0].tolist()


def test_moments_are_those_of_the_pixels():
    image_HWC = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    mean_3, std_3 = sample.moments(sample.histogram(image_HWC))
    np.testing.assert_allclose(mean_3, image_HWC.mean((0, 1)))
    np.testing.assert_allclose(std_3, image_HWC.std((0, 1)))
    assert np.isnan(sample.moments(np.zeros((2, 3, 256)))).all()


def test_reads_in_small_batches(monkeypatch):
    class Source:
        largest = 0

        def __getitems__(self, indices):
            self.largest = max(self.largest, len(indices))
            return [{"image": np.full((4, 4, 3), index, np.uint8)} for index in indices]

    monkeypatch.setattr(sample, "_BATCH_BYTES", 4 * 4 * 3 * 2)
    source = Source()
    index_C = [np.array([3, 1, 2]), np.array([], np.int64)]
    read = sample.read_sample(source, index_C, image_size=4, num_tiles=2, tile=2)
    assert source.largest == 2
    np.testing.assert_array_equal(read.mean_C[0], [[3] * 3, [1] * 3, [2] * 3])
    assert read.mean_C[1].shape == (0, 3)
    assert [tile[0, 0, 0] for tile in read.tile_C[0]] == [3, 1]
    assert all(tile.shape == (2, 2, 3) for tile in read.tile_C[0])
    assert read.histogram_C3V[0, :, 1:4].tolist() == [[16] * 3] * 3
    assert read.histogram_C3V.sum() == 3 * 16 * 3


def test_shrinking_keeps_the_aspect_and_never_enlarges():
    assert sample.shrink(np.zeros((100, 50, 3), np.uint8), 20).shape == (20, 10, 3)
    assert sample.shrink(np.zeros((100, 1, 3), np.uint8), 20).shape == (20, 1, 3)
    assert sample.shrink(np.zeros((10, 5, 3), np.uint8), 20).shape == (10, 5, 3)
