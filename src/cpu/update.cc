// What follows the gradients of a training step: Adam's update of every parameter, unless a gradient is not finite.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "operator.h"
#include "parallel.h"

namespace litehrnet {
namespace {

// Whether all values, and the squares of `scale` times them, are numbers of float32.
bool IsFinite(const Values &x, float scale) {
  uint32_t worst = 0;  // without the sign; of infinity and not-a-numbers above all others
  for (int64_t k = 0; k < x.size; ++k) {
    uint32_t bits;
    std::memcpy(&bits, x.data + k, sizeof bits);
    worst = std::max(worst, bits & 0x7fffffffu);
  }
  float largest;
  std::memcpy(&largest, &worst, sizeof largest);
  return scale * largest < 18446744073709551616.0f;  // 2^64
}

// One parameter with its gradient and the averages of that and of its square.
struct Trained {
  Values gradient, weight, mean, square;
};

// Factors that all parameters share. `rate` is that of Adam with the correction for the first steps.
struct Factors {
  float scale, beta1, beta2, epsilon, rate;
};

// kDecoupled: the decay is part of the step (AdamW), else of the gradient.
template <bool kDecoupled>
void Update(const Trained &p, const Factors &f, float decay) {
  const float *g = p.gradient.data;
  float *w = p.weight.data, *m = p.mean.data, *v = p.square.data;
  for (int64_t k = 0; k < p.weight.size; ++k) {
    const float gradient = f.scale * g[k] + (kDecoupled ? 0 : decay * w[k]);
    m[k] += (1 - f.beta1) * (gradient - m[k]);
    v[k] += (1 - f.beta2) * (gradient * gradient - v[k]);
    w[k] -= f.rate * (m[k] / (std::sqrt(v[k]) + f.epsilon) + (kDecoupled ? decay * w[k] : 0));
  }
}

// factors (4): of the gradients, beta1, beta2, epsilon; the rate of every update; how many there were (int32); without
// kDecoupled powers of beta1 and beta2; weight decays (n); the statistics after the last good step; then n gradients,
// weights, means and squares each, and BN's statistics. Output: 1, or 0 where nothing was changed.
template <bool kDecoupled>
void FinishStep(Tensors t) {
  const float *factors = t.Take({4});
  const Values rates = t.TakeValues();
  int32_t *count = t.TakeCounter();
  float *power1 = kDecoupled ? nullptr : t.TakeValues(1).data, *power2 = kDecoupled ? nullptr : t.TakeValues(1).data;
  const Values decays = t.TakeValues(), good = t.TakeValues();
  std::vector<Trained> trained(decays.size);
  for (Trained &p : trained) p.gradient = t.TakeValues();
  for (auto part : {&Trained::weight, &Trained::mean, &Trained::square}) {
    for (Trained &p : trained) p.*part = t.TakeValues(p.gradient.size);
  }
  std::vector<Values> statistics;
  int64_t left = good.size;
  for (; left > 0; left -= statistics.back().size) statistics.push_back(t.TakeValues());
  if (left < 0) throw std::invalid_argument("there are more statistics than room for them");
  float *finite = t.Take({1});
  t.End();

  Pool &pool = Pool::Get();
  std::atomic<bool> is_finite{true};
  pool.Run(decays.size, [&](int64_t i) {
    if (!IsFinite(trained[i].gradient, factors[0])) is_finite = false;
  });
  *finite = is_finite;
  if (!is_finite) return;
  Factors f{factors[0], factors[1], factors[2], factors[3],
            rates.data[std::min<int64_t>((*count)++, rates.size - 1)]};
  if (!kDecoupled) {
    *power1 *= f.beta1, *power2 *= f.beta2;
    f.rate *= std::sqrt(1 - *power2) / (1 - *power1);
  }
  pool.Run(decays.size, [&](int64_t i) { Update<kDecoupled>(trained[i], f, decays.data[i]); });
  float *out = good.data;
  for (const Values &x : statistics) out = std::copy_n(x.data, x.size, out);
}

}  // namespace
}  // namespace litehrnet

OPERATOR(FinishAdam, FinishStep<false>)
OPERATOR(FinishAdamWeightDecay, FinishStep<true>)
