// BN over the channels of a whole tensor (N, C, P), with an activation, next to a 1x1 convolution.
#pragma once
#include "dense.h"
#include "norm.h"

namespace litehrnet {

// y = activation(BN(z)), statistics of the batch.
template <bool relu>
void TrainNorm(const Norm &norm, Columns columns, int64_t channels, const float *z, float *y) {
  const int64_t pixels = columns.pixels, step = channels * pixels;
  Pool::Get().Run(channels, [&](int64_t c) {
    const Affine affine = norm.Train(c, channels, z + c * pixels, columns.images, pixels, step);
    for (int64_t n = 0; n < columns.images; ++n) {
      const float *from = z + n * step + c * pixels;
      float *to = y + n * step + c * pixels;
      for (int64_t k = 0; k < pixels; ++k) {
        const float v = affine.scale * from[k] + affine.shift;
        to[k] = relu && v < 0 ? 0 : v;
      }
    }
  });
}

// The gradient at z of activation(BN(z)), tile by tile.
template <bool relu>
class ActivatedNormGradient {
 public:
  ActivatedNormGradient(Columns columns, int64_t channels, const float *dy, const float *gamma, const float *beta,
                        const float *z, const float *saved, float *dgamma, float *dbeta)
      : columns_(columns), channels_(channels), dy_(dy), z_(z), terms_(channels) {
    const int64_t pixels = columns.pixels, step = channels * pixels;
    Pool::Get().Run(channels, [&](int64_t c) {
      const float mean = saved[c], inverse = saved[channels + c];
      const Affine affine = TrainedNorm(gamma, beta, saved, c, channels);
      double sum_dy = 0, sum_dy_centred = 0;
      for (int64_t n = 0; n < columns.images; ++n) {
        const float *d = dy + n * step + c * pixels, *v = z + n * step + c * pixels;
        float s = 0, sz = 0;
        for (int64_t k = 0; k < pixels; ++k) {
          const float dk = Mask(affine, v[k]) ? d[k] : 0;
          s += dk, sz += dk * (v[k] - mean);
        }
        sum_dy += s, sum_dy_centred += sz;
      }
      const double count = static_cast<double>(columns.images * pixels);
      terms_[c] = {affine, {gamma[c], mean, inverse, sum_dy, sum_dy_centred, count, dgamma + c, dbeta + c}};
    });
  }

  // dz (N, channels, P), whole
  void Write(float *dz) const {
    Pool::Get().Run(columns_.images * channels_, [&](int64_t i) {
      const int64_t at = i * columns_.pixels;
      Fill(i % channels_, dy_ + at, z_ + at, columns_.pixels, dz + at);
    });
  }

  // tile (channels, kTile), zeros past the end
  void Pack(int64_t t, float *tile) const {
    if ((t + 1) * kTile > columns_.images * columns_.pixels) std::fill_n(tile, channels_ * kTile, 0.0f);
    columns_.Runs(t, [=](int64_t n, int64_t p, int64_t column, int64_t length) {
      for (int64_t c = 0; c < channels_; ++c) {
        const int64_t at = (n * channels_ + c) * columns_.pixels + p;
        Fill(c, dy_ + at, z_ + at, length, tile + c * kTile + column);
      }
    });
  }

 private:
  struct Terms {
    Affine affine;
    NormGradient gradient;
  };

  void Fill(int64_t c, const float *d, const float *v, int64_t length, float *to) const {
    const Affine affine = terms_[c].affine;
    const NormGradient g = terms_[c].gradient;
    for (int64_t k = 0; k < length; ++k) to[k] = g.a * (Mask(affine, v[k]) ? d[k] : 0) + g.b * v[k] + g.c;
  }

  // The comparison of the forward pass, in its words, so that both agree on every value.
  static bool Mask(Affine affine, float v) { return !relu || affine.scale * v + affine.shift > 0; }

  Columns columns_;
  int64_t channels_;
  const float *dy_, *z_;
  std::vector<Terms> terms_;
};

}  // namespace litehrnet
