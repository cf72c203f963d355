// Batch normalisation of a channel, and its gradient, in the affine form that the kernels apply on the fly.
#pragma once
#include <cmath>
#include <cstdint>

namespace litehrnet {

constexpr float kEpsilon = 1e-5f;

// y = scale * z + shift
struct Affine {
  float scale, shift;
};

// BN of channel c as training applied it; `saved` (2, channels): mean, 1 / standard deviation.
inline Affine TrainedNorm(const float *gamma, const float *beta, const float *saved, int64_t c, int64_t channels) {
  const float scale = gamma[c] * saved[channels + c];
  return {scale, beta[c] - saved[c] * scale};
}

// Sums over the planes of one channel: `planes` of `pixels` values, `step` floats apart.
template <typename F>
double SumPlanes(int64_t planes, int64_t pixels, const F &value) {
  double total = 0;
  for (int64_t n = 0; n < planes; ++n) {
    float sum = 0;
    for (int64_t k = 0; k < pixels; ++k) sum += value(n, k);
    total += sum;
  }
  return total;
}

// The parameters of one BN layer as MindSpore hands them over. In inference scale and shift alone are there.
struct Norm {
  const float *gamma, *beta;
  float *moving_mean, *moving_variance;  // updated in place
  const float *momentum;                 // share of the old statistics that is kept
  float *saved;                          // (2, channels): mean, 1 / standard deviation

  // Statistics of channel c of z (see SumPlanes); moves the running ones unless a value is not finite.
  Affine Train(int64_t c, int64_t channels, const float *z, int64_t planes, int64_t pixels, int64_t step) const {
    const double count = static_cast<double>(planes * pixels);
    const float mean =
        static_cast<float>(SumPlanes(planes, pixels, [=](int64_t n, int64_t k) { return z[n * step + k]; }) / count);
    const double variance = SumPlanes(planes, pixels, [=](int64_t n, int64_t k) {
      const float d = z[n * step + k] - mean;
      return d * d;
    }) / count;
    const float inverse = static_cast<float>(1 / std::sqrt(variance + kEpsilon));
    saved[c] = mean, saved[channels + c] = inverse;
    if (std::isfinite(variance)) {
      const float keep = *momentum, unbiased = static_cast<float>(variance * (count / std::fmax(count - 1, 1)));
      moving_mean[c] = keep * moving_mean[c] + (1 - keep) * mean;
      moving_variance[c] = keep * moving_variance[c] + (1 - keep) * unbiased;
    }
    return TrainedNorm(gamma, beta, saved, c, channels);
  }
};

// dz = a * dy + b * z + c: the gradient through BN, from sum(dy) and sum(dy * z).
struct NormGradient {
  float a, b, c;

  NormGradient() = default;
  NormGradient(float gamma, float mean, float inverse, double sum_dy, double sum_dy_centred, double count,
               float *dgamma, float *dbeta) {
    const double dgamma_ = sum_dy_centred * inverse;
    *dgamma = static_cast<float>(dgamma_), *dbeta = static_cast<float>(sum_dy);
    a = gamma * inverse;
    b = static_cast<float>(-a * dgamma_ * inverse / count);
    c = static_cast<float>(-a * sum_dy / count) - b * mean;
  }
};

}  // namespace litehrnet
