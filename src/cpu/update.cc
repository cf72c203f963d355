// An optimizer's whole update as one operator: gradients unscaled, checked, and used only if all of them are finite.
//
// Parameters, moments and counters are MindSpore's own, changed in place. MindSpore spells this as some thousand
// operators, which take a tenth of a step and a quarter of its compilation.
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "operator.h"
#include "parallel.h"

namespace litehrnet {
namespace {

// By its bits, for the compiler may reason about sums: an exponent of ones is infinite or not a number.
bool Finite(const float *values, int64_t count) {
  uint32_t bad = 0;
  for (int64_t k = 0; k < count; ++k) {
    uint32_t bits;
    std::memcpy(&bits, values + k, sizeof bits);
    bad |= (bits & 0x7f800000u) == 0x7f800000u;
  }
  return bad == 0;
}

struct Rule {
  float rate, factor, beta1, beta2, epsilon;
};

// Adam (Kingma and Ba, 2015): decay is added to the gradient; rate holds the bias correction.
void Adam(const Rule &rule, float decay, int64_t count, const float *gradient, float *w, float *m, float *v) {
  for (int64_t k = 0; k < count; ++k) {
    const float g = gradient[k] * rule.factor + decay * w[k];
    m[k] += (g - m[k]) * (1 - rule.beta1);
    v[k] += (g * g - v[k]) * (1 - rule.beta2);
    w[k] -= rule.rate * m[k] / (std::sqrt(v[k]) + rule.epsilon);
  }
}

// MindSpore's AdamWeightDecay: decay beside the gradient, no bias correction.
void AdamWeightDecay(const Rule &rule, float decay, int64_t count, const float *gradient, float *w, float *m,
                     float *v) {
  for (int64_t k = 0; k < count; ++k) {
    const float g = gradient[k] * rule.factor;
    m[k] += (g - m[k]) * (1 - rule.beta1);
    v[k] += (g * g - v[k]) * (1 - rule.beta2);
    w[k] -= rule.rate * (m[k] / (std::sqrt(v[k]) + rule.epsilon) + decay * w[k]);
  }
}

// gradients, parameters, first moments, second moments (P each); beta1 power, beta2 power (1; Adam alone);
// global step (1, int32), learning rates (steps), decay (P), settings (4): factor, beta1, beta2, epsilon
// -> 1 or 0 (1): whether all gradients are finite
template <bool corrected>
void Update(Tensors t) {
  const int counters = corrected ? 2 : 0, n = (t.count() - counters - 5) / 4, rest = 4 * n + counters;
  std::vector<int64_t> sizes(n, 1);
  bool finite = true;
  for (int i = 0; i < n; ++i) {
    for (int axis = 0; axis < t.rank(i); ++axis) sizes[i] *= t.shape(i, axis);
    finite = finite && Finite(t[i], sizes[i]);
  }
  *t[rest + 4] = finite;
  if (!finite) return;
  const float *settings = t[rest + 3], *decay = t[rest + 2];
  int32_t *step = reinterpret_cast<int32_t *>(t[rest]);
  if (*step < 0 || *step >= t.shape(rest + 1, 0)) throw std::out_of_range("no learning rate for this step");
  Rule rule{t[rest + 1][*step], settings[0], settings[1], settings[2], settings[3]};
  ++*step;
  if (corrected) {
    *t[4 * n] *= rule.beta1, *t[4 * n + 1] *= rule.beta2;
    rule.rate *= std::sqrt(1 - *t[4 * n + 1]) / (1 - *t[4 * n]);
  }
  Pool::Get().Run(n, [&](int64_t i) {
    (corrected ? Adam : AdamWeightDecay)(rule, decay[i], sizes[i], t[i], t[n + i], t[2 * n + i], t[3 * n + i]);
  });
}

}  // namespace
}  // namespace litehrnet

OPERATOR(AdamUpdate, Update<true>)
OPERATOR(AdamWeightDecayUpdate, Update<false>)
