// MindSpore 1.10's own CUDA kernels that Lite-HRNet's graphs launch, by the names and arguments under which the GPU
// plugin imports them (`nm -DC libcuda_ops.so`). Half-precision entries are computed in float32 and rounded.
#include "double.h"

#include <algorithm>

using Stream = struct CUstream_st *;
using Sizes = std::vector<size_t>;
#define EACH(i, n) for (size_t i = 0; i < (size_t)(n); i++)

// Element-wise arithmetic and comparison, with and without broadcasting.
enum BroadcastOpType {
  kGreater = 0, kLess = 1, kMaximum = 2, kMinimum = 3, kPower = 4, kRealDiv = 5, kMul = 6, kSub = 7, kAdd = 8,
  kFloorDiv = 9, kDiv = 11, kDivNoNan = 12, kEqual = 13, kGreaterEqual = 18, kLessEqual = 19, kNotEqual = 20,
  kAnd = 21, kOr = 22
};
static double Arithmetic(BroadcastOpType kind, double a, double b) {
  switch (kind) {
    case kMaximum: return std::max(a, b);
    case kMinimum: return std::min(a, b);
    case kPower: return std::pow(a, b);
    case kRealDiv: case kDiv: return a / b;
    case kMul: return a * b;
    case kSub: return a - b;
    case kAdd: return a + b;
    case kDivNoNan: return b == 0 ? 0 : a / b;
    default: gpu_double_refuse(("arithmetic of kind " + std::to_string(kind)).c_str());
  }
}
static bool Comparison(BroadcastOpType kind, double a, double b) {
  switch (kind) {
    case kGreater: return a > b;
    case kLess: return a < b;
    case kEqual: return a == b;
    case kGreaterEqual: return a >= b;
    case kLessEqual: return a <= b;
    case kNotEqual: return a != b;
    case kAnd: return a && b;
    case kOr: return a || b;
    default: gpu_double_refuse(("comparison of kind " + std::to_string(kind)).c_str());
  }
}
// Calls f(index of the output, of a, of b).
template <typename F>
static void Broadcast(const Sizes &a, const Sizes &b, const Sizes &out, F f) {
  size_t total = 1;
  for (size_t d : out) total *= d;
  EACH(k, total) {
    size_t rest = k, i = 0, j = 0, step_a = 1, step_b = 1;
    for (size_t d = out.size(); d-- > 0; rest /= out[d]) {
      if (a[d] > 1) i += rest % out[d] * step_a;
      if (b[d] > 1) j += rest % out[d] * step_b;
      step_a *= a[d], step_b *= b[d];
    }
    f(k, i, j);
  }
}
template <typename T>
void ElewiseArith(const int &n, BroadcastOpType kind, const T *a, const T *b, T *y, Stream) {
  LAUNCH();
  EACH(i, n) y[i] = Arithmetic(kind, a[i], b[i]);
}
template <typename T>
void BroadcastArith(const Sizes &da, const Sizes &db, const Sizes &dy, BroadcastOpType kind, const T *a, const T *b, T *y,
                    Stream) {
  LAUNCH();
  Broadcast(da, db, dy, [&](size_t k, size_t i, size_t j) { y[k] = Arithmetic(kind, a[i], b[j]); });
}
template <typename T>
void ElewiseCmp(const int &n, BroadcastOpType kind, const T *a, const T *b, bool *y, Stream) {
  LAUNCH();
  EACH(i, n) y[i] = Comparison(kind, a[i], b[i]);
}
template <typename T>
void BroadcastCmp(const Sizes &da, const Sizes &db, const Sizes &dy, BroadcastOpType kind, const T *a, const T *b,
                  bool *y, Stream) {
  LAUNCH();
  Broadcast(da, db, dy, [&](size_t k, size_t i, size_t j) { y[k] = Comparison(kind, a[i], b[j]); });
}
#define ELEMENTWISE(T)                                                                                             \
  template void ElewiseArith<T>(const int &, BroadcastOpType, const T *, const T *, T *, Stream);                   \
  template void BroadcastArith<T>(const Sizes &, const Sizes &, const Sizes &, BroadcastOpType, const T *,          \
                                  const T *, T *, Stream);                                                         \
  template void ElewiseCmp<T>(const int &, BroadcastOpType, const T *, const T *, bool *, Stream);                  \
  template void BroadcastCmp<T>(const Sizes &, const Sizes &, const Sizes &, BroadcastOpType, const T *, const T *, \
                                bool *, Stream);
ELEMENTWISE(float) ELEMENTWISE(__half) ELEMENTWISE(int) ELEMENTWISE(long)

// Functions of one value.
template <typename T> void Square(const T *x, T *y, size_t n, Stream) { LAUNCH(); EACH(i, n) y[i] = x[i] * x[i]; }
template <typename T> void Sqrt(const T *x, T *y, size_t n, Stream) { LAUNCH(); EACH(i, n) y[i] = std::sqrt(x[i]); }
template <typename T> void Reciprocal(const T *x, T *y, size_t n, Stream) { LAUNCH(); EACH(i, n) y[i] = 1 / x[i]; }
template <typename T> void Negative(const T *x, T *y, size_t n, Stream) { LAUNCH(); EACH(i, n) y[i] = -x[i]; }
template <typename T> void CalReLU(int n, T *x, T *y, Stream) { LAUNCH(); EACH(i, n) y[i] = x[i] < 0 ? T(0) : x[i]; }
template <typename T> void CalReLUGrad(int n, T *dy, T *y, T *dx, Stream) {
  LAUNCH();
  EACH(i, n) dx[i] = y[i] > 0 ? dy[i] : T(0);
}
template <typename T> void CalIsFinite(size_t n, const T *x, bool *y, Stream) {
  LAUNCH();
  EACH(i, n) y[i] = std::isfinite((float)x[i]);
}
template <typename T> void FillDeviceArray(size_t n, T *y, float value, Stream) { LAUNCH(); EACH(i, n) y[i] = value; }
template <typename T> void CalOnesLike(size_t n, const T *, T *y, Stream) { LAUNCH(); EACH(i, n) y[i] = 1; }
template <typename T> void CalAssignAdd(size_t n, T *to, const T *x, T *y, Stream) {
  LAUNCH();
  EACH(i, n) y[i] = to[i] = to[i] + x[i];
}
template <typename T> void CalSelect(size_t n, const bool *which, const T *a, const T *b, T *y, Stream) {
  LAUNCH();
  EACH(i, n) y[i] = which[i] ? a[i] : b[i];
}
template <typename S, typename T> void Cast(int n, const S *x, T *y, Stream) { LAUNCH(); EACH(i, n) y[i] = (T)x[i]; }
template <typename S, typename T> void CastAllKernel(S **xs, T **ys, size_t, size_t count, const size_t *n, Stream) {
  LAUNCH();
  EACH(k, count) EACH(i, n[k]) ys[k][i] = (T)xs[k][i];
}

// ReLU that keeps a bit per entry for its gradient, 32 of them in a word.
static bool Bit(const unsigned *mask, size_t i) { return mask[i / 32] >> i % 32 & 1; }
static void SetBit(unsigned *mask, size_t i, bool value) {
  if (i % 32 == 0) mask[i / 32] = 0;
  mask[i / 32] |= (unsigned)value << i % 32;
}
template <typename T> void ReluV2(size_t n, const T *x, T *y, unsigned *mask, Stream) {
  LAUNCH();
  EACH(i, n) { SetBit(mask, i, x[i] > 0); y[i] = x[i] > 0 ? x[i] : T(0); }
}
template <typename T> void ReluGradV2(size_t n, const T *dy, const unsigned *mask, T *dx, Stream) {
  LAUNCH();
  EACH(i, n) dx[i] = Bit(mask, i) ? dy[i] : T(0);
}
template <typename T> void AddReluV2(size_t n, const T *a, const T *b, T *y, unsigned *mask, Stream) {
  LAUNCH();
  EACH(i, n) { T x = a[i] + b[i]; SetBit(mask, i, x > 0); y[i] = x > 0 ? x : T(0); }
}
template <typename T> void AddReluGradV2(size_t n, const T *a, const T *b, const unsigned *mask, T *dx, Stream) {
  LAUNCH();
  EACH(i, n) dx[i] = Bit(mask, i) ? T(a[i] + b[i]) : T(0);
}

// Layout.
template <typename T>
void Slice4DKernel(size_t s1, size_t s2, size_t s3, size_t s4, size_t l1, size_t l2, size_t l3, size_t l4, size_t, size_t d2,
                   size_t d3, size_t d4, const T *x, T *y, const unsigned &, Stream) {
  LAUNCH();
  EACH(i, l1) EACH(j, l2) EACH(k, l3) EACH(m, l4) *y++ = x[(((i + s1) * d2 + j + s2) * d3 + k + s3) * d4 + m + s4];
}
template <typename T>
void CalSlice4DGrad(size_t s1, size_t s2, size_t s3, size_t s4, size_t l1, size_t l2, size_t l3, size_t l4, size_t,
                    size_t d2, size_t d3, size_t d4, const T *dy, T *dx, Stream) {
  LAUNCH();
  EACH(i, l1) EACH(j, l2) EACH(k, l3) EACH(m, l4) dx[(((i + s1) * d2 + j + s2) * d3 + k + s3) * d4 + m + s4] = *dy++;
}
// `row` is the size of a joined row along the axis, `inside` what lies behind the axis; lengths are along the axis.
template <typename T>
void ConcatKernel(size_t n, int inputs, int row, int inside, int *lengths, T **xs, T *y, Stream) {
  LAUNCH();
  EACH(p, n) {
    int at = p % row / inside, block = 0;
    while (block + 1 < inputs && at >= lengths[block]) at -= lengths[block++];
    y[p] = xs[block][(p / row * lengths[block] + at) * inside + p % inside];
  }
}
template <typename T> void SplitKernel(size_t n, int length, int row, int inside, const T *x, T **ys, Stream) {
  LAUNCH();
  EACH(p, n) {
    int at = p % row / inside;
    ys[at / length][(p / row * length + at % length) * inside + p % inside] = x[p];
  }
}
template <typename T> void PackKernel(size_t n, size_t inputs, size_t behind, T **xs, T *y, Stream) {
  LAUNCH();
  EACH(p, n) y[p] = xs[p / behind % inputs][p / (inputs * behind) * behind + p % behind];
}
template <typename T> void UnpackKernel(size_t n, size_t outputs, size_t behind, T **ys, const T *x, Stream) {
  LAUNCH();
  EACH(p, n) ys[p / behind % outputs][p / (outputs * behind) * behind + p % behind] = x[p];
}
template <typename T>
void CalTile(size_t n, size_t, size_t dims, const size_t *from, const size_t *to, const T *x, T *y, Stream) {
  LAUNCH();
  EACH(p, n) {
    size_t rest = p, q = 0, step = 1;
    for (size_t d = dims; d-- > 0; rest /= to[d]) q += rest % to[d] % from[d] * step, step *= from[d];
    y[p] = x[q];
  }
}
template <typename T>
static void Transpose(size_t n, const T *x, const size_t *shape, const size_t *axes, size_t dims, T *y) {
  Sizes steps(dims, 1);
  for (size_t d = dims - 1; d-- > 0;) steps[d] = steps[d + 1] * shape[d + 1];
  EACH(p, n) {
    size_t rest = p, q = 0;
    for (size_t d = dims; d-- > 0; rest /= shape[axes[d]]) q += rest % shape[axes[d]] * steps[axes[d]];
    y[p] = x[q];
  }
}
template <typename T>
void CalTranspose(size_t n, const T *x, const size_t *shape, const size_t *axes, size_t dims, T *y, Stream) {
  LAUNCH();
  Transpose(n, x, shape, axes, dims, y);
}
template <typename T>
void CalNCHW2NHWCInterface(size_t n, size_t dims, const T *x, const size_t *shape, const size_t *axes, const size_t *,
                           const size_t *, T *y, Stream) {
  LAUNCH();
  Transpose(n, x, shape, axes, dims, y);
}
template <typename T>
void CalNHWC2NCHWInterface(size_t n, size_t dims, const T *x, const size_t *shape, const size_t *axes, const size_t *,
                           const size_t *, T *y, Stream) {
  LAUNCH();
  Transpose(n, x, shape, axes, dims, y);
}
// A scalar of the learning rates' list, among others; an index out of range gives 0, as on a GPU.
template <typename T, typename I>
void GatherV2(T *x, I *indices, T *y, size_t before, size_t count, size_t behind, size_t size, Stream) {
  LAUNCH();
  EACH(i, before) EACH(j, count) EACH(k, behind) {
    bool inside = indices[j] >= 0 && (size_t)indices[j] < size;
    y[(i * count + j) * behind + k] = inside ? x[(i * size + indices[j]) * behind + k] : T(0);
  }
}

// Gradients of layers.
template <typename T> void CalBiasAddGradNCHW(size_t n, size_t channels, int h, int w, const T *dy, T *db, Stream) {
  LAUNCH();
  std::vector<double> sum(channels);
  EACH(i, n) sum[i / ((size_t)h * w) % channels] += dy[i];
  EACH(c, channels) db[c] = sum[c];
}
template <typename T> void CalBiasAddGradNHWC(size_t n, size_t channels, const T *dy, T *db, Stream) {
  LAUNCH();
  std::vector<double> sum(channels);
  EACH(i, n) sum[i % channels] += dy[i];
  EACH(c, channels) db[c] = sum[c];
}
template <typename T>
void CalBatchNormGrad(T *x, T *dy, float *gamma, float *mean, float *variance, T *dx, float *dgamma, float *dbeta,
                      double epsilon, int n, int channels, int h, int w, Stream) {
  LAUNCH();
  const size_t area = (size_t)h * w;
  EACH(c, channels) {
    double scale = 1 / std::sqrt(variance[c] + epsilon), sum = 0, product = 0;
    EACH(i, n) EACH(k, area) {
      size_t at = (i * channels + c) * area + k;
      sum += dy[at];
      product += dy[at] * (x[at] - mean[c]) * scale;
      dx[at] = dy[at] * gamma[c] * scale;
    }
    dgamma[c] = product, dbeta[c] = sum;
  }
}

// Optimizers.
template <typename T, typename R, typename G>
void MomentumUpdateVariable(size_t n, T *weights, T *moment, const R *rate, const G *gradient, const R *momentum,
                            bool nesterov, Stream) {
  LAUNCH();
  EACH(i, n) {
    moment[i] = momentum[0] * moment[i] + gradient[i];
    weights[i] -= nesterov ? (gradient[i] + moment[i] * momentum[0]) * rate[0] : rate[0] * moment[i];
  }
}
template <typename T, typename G>
void FusedWeightDecayMomentum(size_t n, T *decay, T *weights, T *moment, const T *rate, const G *gradient,
                              const T *momentum, Stream) {
  LAUNCH();
  EACH(i, n) {
    moment[i] = momentum[0] * moment[i] + gradient[i] + decay[0] * weights[i];
    weights[i] -= rate[0] * moment[i];
  }
}
template <typename T, typename G>
void AdamWeightDecayOp(size_t n, const G *gradient, const float *rate, const float *beta1, const float *beta2,
                       const float *epsilon, const float *decay, G *weights, T *first, T *second, Stream) {
  LAUNCH();
  EACH(i, n) {
    first[i] += (gradient[i] - first[i]) * (1 - beta1[0]);
    second[i] += (gradient[i] * gradient[i] - second[i]) * (1 - beta2[0]);
    weights[i] -= rate[0] * (first[i] / (std::sqrt(second[i]) + epsilon[0]) + decay[0] * weights[i]);
  }
}
template <typename T>
void ApplyAdam(size_t n, const T *gradient, const T *beta1_power, const T *beta2_power, const T *rate, const T *beta1,
               const T *beta2, const T *epsilon, T *weights, T *first, T *second, Stream) {
  LAUNCH();
  const T corrected = rate[0] * std::sqrt(1 - beta2_power[0]) / (1 - beta1_power[0]);
  EACH(i, n) {
    first[i] += (gradient[i] - first[i]) * (1 - beta1[0]);
    second[i] += (gradient[i] * gradient[i] - second[i]) * (1 - beta2[0]);
    weights[i] -= corrected * first[i] / (std::sqrt(second[i]) + epsilon[0]);
  }
}

#define OF_NUMBERS(T)                                                              \
  template void CalOnesLike<T>(size_t, const T *, T *, Stream);                     \
  template void FillDeviceArray<T>(size_t, T *, float, Stream);                     \
  template void CalAssignAdd<T>(size_t, T *, const T *, T *, Stream);               \
  template void CalSelect<T>(size_t, const bool *, const T *, const T *, T *, Stream); \
  template void CalTile<T>(size_t, size_t, size_t, const size_t *, const size_t *, const T *, T *, Stream);
OF_NUMBERS(float) OF_NUMBERS(__half) OF_NUMBERS(int) OF_NUMBERS(long)

#define OF_REALS(T)                                                                                              \
  template void Square<T>(const T *, T *, size_t, Stream);                                                        \
  template void Sqrt<T>(const T *, T *, size_t, Stream);                                                          \
  template void Reciprocal<T>(const T *, T *, size_t, Stream);                                                    \
  template void Negative<T>(const T *, T *, size_t, Stream);                                                      \
  template void CalReLU<T>(int, T *, T *, Stream);                                                                \
  template void CalReLUGrad<T>(int, T *, T *, T *, Stream);                                                        \
  template void CalIsFinite<T>(size_t, const T *, bool *, Stream);                                                \
  template void ReluV2<T>(size_t, const T *, T *, unsigned *, Stream);                                            \
  template void ReluGradV2<T>(size_t, const T *, const unsigned *, T *, Stream);                                  \
  template void AddReluV2<T>(size_t, const T *, const T *, T *, unsigned *, Stream);                              \
  template void AddReluGradV2<T>(size_t, const T *, const T *, const unsigned *, T *, Stream);                    \
  template void Slice4DKernel<T>(size_t, size_t, size_t, size_t, size_t, size_t, size_t, size_t, size_t, size_t,  \
                                 size_t, size_t, const T *, T *, const unsigned &, Stream);                      \
  template void CalSlice4DGrad<T>(size_t, size_t, size_t, size_t, size_t, size_t, size_t, size_t, size_t, size_t, \
                                  size_t, size_t, const T *, T *, Stream);                                       \
  template void ConcatKernel<T>(size_t, int, int, int, int *, T **, T *, Stream);                                 \
  template void SplitKernel<T>(size_t, int, int, int, const T *, T **, Stream);                                   \
  template void PackKernel<T>(size_t, size_t, size_t, T **, T *, Stream);                                         \
  template void UnpackKernel<T>(size_t, size_t, size_t, T **, const T *, Stream);                                 \
  template void CalTranspose<T>(size_t, const T *, const size_t *, const size_t *, size_t, T *, Stream);          \
  template void CalNCHW2NHWCInterface<T>(size_t, size_t, const T *, const size_t *, const size_t *,               \
                                         const size_t *, const size_t *, T *, Stream);                            \
  template void CalNHWC2NCHWInterface<T>(size_t, size_t, const T *, const size_t *, const size_t *,               \
                                         const size_t *, const size_t *, T *, Stream);                            \
  template void GatherV2<T, int>(T *, int *, T *, size_t, size_t, size_t, size_t, Stream);                        \
  template void CalBiasAddGradNCHW<T>(size_t, size_t, int, int, const T *, T *, Stream);                          \
  template void CalBiasAddGradNHWC<T>(size_t, size_t, const T *, T *, Stream);                                    \
  template void CalBatchNormGrad<T>(T *, T *, float *, float *, float *, T *, float *, float *, double, int, int, \
                                    int, int, Stream);
OF_REALS(float) OF_REALS(__half)

template void Cast<float, __half>(int, const float *, __half *, Stream);
template void Cast<__half, float>(int, const __half *, float *, Stream);
template void Cast<bool, float>(int, const bool *, float *, Stream);
template void Cast<int, float>(int, const int *, float *, Stream);
template void MomentumUpdateVariable<float, float, float>(size_t, float *, float *, const float *, const float *,
                                                          const float *, bool, Stream);
template void FusedWeightDecayMomentum<float, float>(size_t, float *, float *, float *, const float *, const float *,
                                                     const float *, Stream);
template void CastAllKernel<float, __half>(float **, __half **, size_t, size_t, const size_t *, Stream);
template void CastAllKernel<__half, float>(__half **, float **, size_t, size_t, const size_t *, Stream);
template void AdamWeightDecayOp<float, float>(size_t, const float *, const float *, const float *, const float *,
                                              const float *, const float *, float *, float *, float *, Stream);
template void ApplyAdam<float>(size_t, const float *, const float *, const float *, const float *, const float *,
                               const float *, const float *, float *, float *, float *, Stream);
