// cuDNN: descriptors and what this network runs. Every tensor is read into floats in its logical order, whatever its
// type and strides, computed on, and written back. Types and enumerators as in NVIDIA's cuDNN 8 reference.
#include "double.h"

#include <algorithm>
#include <functional>

enum { kSuccess = 0, kBadParam = 3 };
enum { kFloat = 0, kDouble = 1, kHalf = 2 };
enum { kNhwc = 1 };
enum { kSigmoid = 0, kRelu = 1 };
enum { kMaxPool = 0, kAverageWithPadding = 1, kAverageWithoutPadding = 2 };
enum { kReduceAdd = 0, kReduceAverage = 5 };
enum { kOpAdd = 0 };
enum { kPlain = 0, kActivate = 1, kAddActivate = 2 };  // what is fused with batch normalisation
static const int kDims = 8;

// One struct for every kind of descriptor.
struct Descriptor {
  int type, format, mode, groups, nd;
  int dims[kDims], strides[kDims];     // of a tensor or a filter
  int window[2], pad[2], step[2], dilation[2];
  size_t Size() const {
    size_t n = 1;
    for (int i = 0; i < nd; i++) n *= dims[i];
    return n;
  }
  int Width() const { return type == kHalf ? 2 : type == kDouble ? 8 : 4; }
};
using Tensor = Descriptor *;
using Floats = std::vector<float>;

static int Make(Tensor *d) {
  *d = (Tensor)calloc(1, sizeof(Descriptor));
  (*d)->groups = 1;
  return kSuccess;
}
static int Set(Tensor t, int type, int format, int nd, const int *dims, const int *strides) {
  if (nd < 3 || nd > kDims) return kBadParam;  // as the real one
  t->type = type, t->format = format, t->nd = nd;
  long step = 1;
  for (int i = nd - 1; i >= 0; i--) {
    if (dims[i] <= 0) return kBadParam;
    t->dims[i] = dims[i];
    t->strides[i] = strides ? strides[i] : step;
    step *= dims[i];
  }
  if (!strides && format == kNhwc) {
    if (nd != 4) gpu_double_refuse("an NHWC tensor of other than four dimensions");
    int nhwc[] = {dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
    memcpy(t->strides, nhwc, sizeof nhwc);
  }
  return kSuccess;
}
static size_t Extent(Tensor t) {
  size_t last = 1;
  for (int i = 0; i < t->nd; i++) last += (size_t)(t->dims[i] - 1) * t->strides[i];
  return t->nd ? last * t->Width() : 0;
}

// Calls f(logical index, offset in memory) for each entry.
template <typename F>
static void Each(Tensor t, F f) {
  int at[kDims] = {0};
  size_t offset = 0;
  for (size_t i = 0, n = t->Size(); i < n; i++) {
    f(i, offset);
    for (int d = t->nd - 1; d >= 0; d--) {
      offset += t->strides[d];
      if (++at[d] < t->dims[d]) break;
      offset -= (size_t)t->strides[d] * t->dims[d];
      at[d] = 0;
    }
  }
}
static Floats Read(Tensor t, const void *p) {
  if (t->type != kFloat && t->type != kHalf) gpu_double_refuse(("a tensor of type " + std::to_string(t->type)).c_str());
  Floats x(t->Size());
  Each(t, [&](size_t i, size_t at) { x[i] = t->type == kHalf ? (float)((__half *)p)[at] : ((float *)p)[at]; });
  return x;
}
static void Write(Tensor t, void *p, const Floats &x, float alpha = 1, float beta = 0) {
  Floats old = beta ? Read(t, p) : Floats();
  Each(t, [&](size_t i, size_t at) {
    float y = alpha * x[i] + (beta ? beta * old[i] : 0);
    if (t->type == kHalf) ((__half *)p)[at] = y;
    else ((float *)p)[at] = y;
  });
}
static float Scalar(const void *p) { return *(const float *)p; }  // alpha and beta are float32 for both types

extern "C" {
size_t cudnnGetVersion() { CALL(); return 8500; }
int cudnnCreate(void **handle) { CALL(); *handle = calloc(1, 64); return kSuccess; }
int cudnnDestroy(void *handle) { CALL(); free(handle); return kSuccess; }
int cudnnSetStream(void *, void *) { CALL(); return kSuccess; }
const char *cudnnGetErrorString(int) { return "an error of the double's cuDNN"; }
#define DESCRIPTOR(kind)                                                            \
  int cudnnCreate##kind##Descriptor(Tensor *d) { CALL(); return Make(d); }          \
  int cudnnDestroy##kind##Descriptor(Tensor d) { CALL(); free(d); return kSuccess; }
DESCRIPTOR(Tensor) DESCRIPTOR(Filter) DESCRIPTOR(Convolution) DESCRIPTOR(Pooling) DESCRIPTOR(Activation)
DESCRIPTOR(ReduceTensor) DESCRIPTOR(OpTensor)

int cudnnSetTensor4dDescriptor(Tensor t, int format, int type, int n, int c, int h, int w) {
  CALL();
  int dims[] = {n, c, h, w};
  return Set(t, type, format, 4, dims, nullptr);
}
int cudnnSetTensorNdDescriptor(Tensor t, int type, int nd, const int *dims, const int *strides) {
  CALL();
  return Set(t, type, 0, nd, dims, strides);
}
int cudnnSetTensorNdDescriptorEx(Tensor t, int format, int type, int nd, const int *dims) {
  CALL();
  return Set(t, type, format, nd, dims, nullptr);
}
int cudnnSetFilter4dDescriptor(Tensor t, int type, int format, int k, int c, int h, int w) {
  CALL();
  int dims[] = {k, c, h, w};
  return Set(t, type, format, 4, dims, nullptr);
}
int cudnnSetFilterNdDescriptor(Tensor t, int type, int format, int nd, const int *dims) {
  CALL();
  return Set(t, type, format, nd, dims, nullptr);
}
int cudnnGetTensorSizeInBytes(Tensor t, size_t *n) { CALL(); *n = Extent(t); return kSuccess; }
int cudnnGetFilterSizeInBytes(Tensor t, size_t *n) { CALL(); *n = Extent(t); return kSuccess; }

int cudnnSetConvolutionNdDescriptor(Tensor t, int n, const int *pad, const int *step, const int *dilation, int, int) {
  CALL();
  if (n != 2) gpu_double_refuse("a convolution of other than two dimensions");
  for (int i = 0; i < 2; i++) t->pad[i] = pad[i], t->step[i] = step[i], t->dilation[i] = dilation[i];
  return kSuccess;
}
int cudnnSetConvolution2dDescriptor(Tensor t, int pad_h, int pad_w, int step_h, int step_w, int dilation_h,
                                    int dilation_w, int mode, int type) {
  int pad[] = {pad_h, pad_w}, step[] = {step_h, step_w}, dilation[] = {dilation_h, dilation_w};
  return cudnnSetConvolutionNdDescriptor(t, 2, pad, step, dilation, mode, type);
}
int cudnnSetConvolutionGroupCount(Tensor t, int groups) { CALL(); t->groups = groups; return kSuccess; }
int cudnnSetConvolutionMathType(Tensor, int) { CALL(); return kSuccess; }
int cudnnSetPoolingNdDescriptor(Tensor t, int mode, int, int n, const int *window, const int *pad, const int *step) {
  CALL();
  if (n != 2) gpu_double_refuse("a pooling of other than two dimensions");
  t->mode = mode;
  for (int i = 0; i < 2; i++) t->window[i] = window[i], t->pad[i] = pad[i], t->step[i] = step[i];
  return kSuccess;
}
int cudnnSetActivationDescriptor(Tensor t, int mode, int, double) { CALL(); t->mode = mode; return kSuccess; }
int cudnnSetReduceTensorDescriptor(Tensor t, int mode, int, int, int, int) { CALL(); t->mode = mode; return kSuccess; }
int cudnnSetOpTensorDescriptor(Tensor t, int mode, int, int) { CALL(); t->mode = mode; return kSuccess; }

// Room that algorithms ask for. None is needed; MindSpore allocates what it is told.
int cudnnGetReductionIndicesSize(void *, Tensor, Tensor, Tensor, size_t *n) { CALL(); *n = 0; return kSuccess; }
int cudnnGetReductionWorkspaceSize(void *, Tensor, Tensor, Tensor, size_t *n) { CALL(); *n = 1024; return kSuccess; }
#define WORKSPACE(what) \
  int cudnnGetConvolution##what##WorkspaceSize(void *, Tensor, Tensor, Tensor, Tensor, int, size_t *n) { \
    CALL(); *n = 1024; return kSuccess; }
WORKSPACE(Forward) WORKSPACE(BackwardData) WORKSPACE(BackwardFilter)
int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void *, int, int, Tensor, Tensor, Tensor, Tensor, Tensor,
                                                             size_t *n) {
  CALL();
  *n = 1024;
  return kSuccess;
}
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void *, int, int, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                                                      Tensor, size_t *n) {
  CALL();
  *n = 1024;
  return kSuccess;
}
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void *, int, int, Tensor, Tensor, size_t *n) {
  CALL();
  *n = 1024;
  return kSuccess;
}
// cudnnConvolution*AlgoPerf_t.
struct Algorithm {
  int algorithm, status;
  float time;
  size_t memory;
  int determinism, math_type, reserved[3];
};
static int OneAlgorithm(int wanted, int *given, Algorithm *found) {
  memset(found, 0, sizeof(Algorithm) * wanted);
  for (int i = 0; i < wanted; i++) found[i].algorithm = 1;
  *given = wanted > 0;
  return kSuccess;
}
#define ALGORITHM(what)                                                                                           \
  int cudnnGetConvolution##what##Algorithm_v7(void *, Tensor, Tensor, Tensor, Tensor, int wanted, int *given,      \
                                              Algorithm *found) {                                                 \
    CALL(); return OneAlgorithm(wanted, given, found); }
ALGORITHM(Forward) ALGORITHM(BackwardData) ALGORITHM(BackwardFilter)
}

// Calls f(index in x, index in w, index in y) for each product of a convolution of NCHW tensors.
template <typename F>
static void Convolve(Tensor x, Tensor w, Tensor conv, Tensor y, F f) {
  const int groups = conv->groups, in = x->dims[1] / groups, out = w->dims[0] / groups;
  if (w->dims[1] != in || y->dims[1] != w->dims[0]) gpu_double_refuse("a convolution whose shapes do not fit");
  const int height = x->dims[2], width = x->dims[3], rows = y->dims[2], columns = y->dims[3];
  for (int n = 0; n < x->dims[0]; n++)
    for (int k = 0; k < w->dims[0]; k++)
      for (int c = 0; c < in; c++)
        for (int r = 0; r < w->dims[2]; r++)
          for (int s = 0; s < w->dims[3]; s++)
            for (int i = 0; i < rows; i++) {
              int h = i * conv->step[0] - conv->pad[0] + r * conv->dilation[0];
              if (h < 0 || h >= height) continue;
              for (int j = 0; j < columns; j++) {
                int v = j * conv->step[1] - conv->pad[1] + s * conv->dilation[1];
                if (v < 0 || v >= width) continue;
                size_t channel = (size_t)n * x->dims[1] + k / out * in + c;
                f((channel * height + h) * width + v, (((size_t)k * in + c) * w->dims[2] + r) * w->dims[3] + s,
                  (((size_t)n * y->dims[1] + k) * rows + i) * columns + j);
              }
            }
}

// Sums over all but the channels: calls f(channel, index).
template <typename F>
static void EachOfChannel(Tensor t, F f) {
  size_t inside = 1;
  for (int d = 2; d < t->nd; d++) inside *= t->dims[d];
  for (size_t i = 0, n = t->Size(); i < n; i++) f(i / inside % t->dims[1], i);
}

extern "C" {
int cudnnConvolutionForward(void *, const void *alpha, Tensor xd, const void *x, Tensor wd, const void *w, Tensor conv,
                            int, void *, size_t, const void *beta, Tensor yd, void *y) {
  LAUNCH();
  Floats a = Read(xd, x), b = Read(wd, w), out(yd->Size());
  Convolve(xd, wd, conv, yd, [&](size_t i, size_t j, size_t k) { out[k] += a[i] * b[j]; });
  Write(yd, y, out, Scalar(alpha), Scalar(beta));
  return kSuccess;
}
int cudnnConvolutionBackwardData(void *, const void *alpha, Tensor wd, const void *w, Tensor yd, const void *dy,
                                 Tensor conv, int, void *, size_t, const void *beta, Tensor xd, void *dx) {
  LAUNCH();
  Floats b = Read(wd, w), d = Read(yd, dy), out(xd->Size());
  Convolve(xd, wd, conv, yd, [&](size_t i, size_t j, size_t k) { out[i] += d[k] * b[j]; });
  Write(xd, dx, out, Scalar(alpha), Scalar(beta));
  return kSuccess;
}
int cudnnConvolutionBackwardFilter(void *, const void *alpha, Tensor xd, const void *x, Tensor yd, const void *dy,
                                   Tensor conv, int, void *, size_t, const void *beta, Tensor wd, void *dw) {
  LAUNCH();
  Floats a = Read(xd, x), d = Read(yd, dy), out(wd->Size());
  Convolve(xd, wd, conv, yd, [&](size_t i, size_t j, size_t k) { out[j] += d[k] * a[i]; });
  Write(wd, dw, out, Scalar(alpha), Scalar(beta));
  return kSuccess;
}

static int Normalise(Tensor xd, const void *x, Tensor yd, void *y, const float *gamma, const float *beta, double share,
                     float *moving_mean, float *moving_variance, double epsilon, float *saved_mean, float *saved_scale) {
  if (xd->nd < 4 || epsilon < 1e-5 - 1e-12) return kBadParam;  // as the real one
  const int channels = xd->dims[1];
  const double count = (double)xd->Size() / channels;
  Floats a = Read(xd, x), out(a.size());
  std::vector<double> mean(channels), variance(channels);
  EachOfChannel(xd, [&](int c, size_t i) { mean[c] += a[i] / count; });
  EachOfChannel(xd, [&](int c, size_t i) { variance[c] += (a[i] - mean[c]) * (a[i] - mean[c]) / count; });
  EachOfChannel(xd, [&](int c, size_t i) {
    out[i] = (a[i] - mean[c]) / std::sqrt(variance[c] + epsilon) * gamma[c] + beta[c];
  });
  Write(yd, y, out);
  for (int c = 0; c < channels; c++) {
    double unbiased = count > 1 ? variance[c] * count / (count - 1) : variance[c];
    if (moving_mean) moving_mean[c] = mean[c] * share + moving_mean[c] * (1 - share);
    if (moving_variance) moving_variance[c] = unbiased * share + moving_variance[c] * (1 - share);
    if (saved_mean) saved_mean[c] = mean[c];
    if (saved_scale) saved_scale[c] = 1 / std::sqrt(variance[c] + epsilon);
  }
  return kSuccess;
}
int cudnnBatchNormalizationForwardTraining(void *, int, const void *, const void *, Tensor xd, const void *x, Tensor yd,
                                           void *y, Tensor, const void *gamma, const void *beta, double share,
                                           void *mean, void *variance, double epsilon, void *saved_mean,
                                           void *saved_scale) {
  LAUNCH();
  return Normalise(xd, x, yd, y, (const float *)gamma, (const float *)beta, share, (float *)mean, (float *)variance,
                   epsilon, (float *)saved_mean, (float *)saved_scale);
}
int cudnnBatchNormalizationForwardTrainingEx(void *, int, int fused, const void *, const void *, Tensor xd,
                                             const void *x, Tensor zd, const void *z, Tensor yd, void *y, Tensor,
                                             const void *gamma, const void *beta, double share, void *mean,
                                             void *variance, double epsilon, void *saved_mean, void *saved_scale,
                                             Tensor activation, void *, size_t, void *, size_t) {
  LAUNCH();
  Normalise(xd, x, yd, y, (const float *)gamma, (const float *)beta, share, (float *)mean, (float *)variance, epsilon,
            (float *)saved_mean, (float *)saved_scale);
  if (fused == kPlain) return kSuccess;
  if (activation->mode != kRelu) gpu_double_refuse("batch normalisation fused with another activation than ReLU");
  Floats out = Read(yd, y), added = fused == kAddActivate ? Read(zd, z) : Floats(out.size());
  for (size_t i = 0; i < out.size(); i++) out[i] = std::max(out[i] + added[i], 0.0f);
  Write(yd, y, out);
  return kSuccess;
}
int cudnnBatchNormalizationForwardInference(void *, int, const void *, const void *, Tensor xd, const void *x,
                                            Tensor yd, void *y, Tensor, const void *gamma, const void *beta,
                                            const void *mean, const void *variance, double epsilon) {
  LAUNCH();
  Floats a = Read(xd, x), out(a.size());
  const float *g = (const float *)gamma, *b = (const float *)beta, *m = (const float *)mean, *v = (const float *)variance;
  EachOfChannel(xd, [&](int c, size_t i) { out[i] = (a[i] - m[c]) / std::sqrt(v[c] + epsilon) * g[c] + b[c]; });
  Write(yd, y, out);
  return kSuccess;
}
int cudnnBatchNormalizationBackwardEx(void *, int, int fused, const void *, const void *, const void *, const void *,
                                      Tensor xd, const void *x, Tensor yd, const void *y, Tensor dyd, const void *dy,
                                      Tensor dzd, void *dz, Tensor dxd, void *dx, Tensor, const void *gamma, const void *,
                                      void *dgamma, void *dbeta, double, const void *saved_mean,
                                      const void *saved_scale, Tensor, void *, size_t, void *, size_t) {
  LAUNCH();
  const int channels = xd->dims[1];
  const double count = (double)xd->Size() / channels;
  const float *mean = (const float *)saved_mean, *scale = (const float *)saved_scale, *g = (const float *)gamma;
  Floats a = Read(xd, x), d = Read(dyd, dy), out(a.size());
  if (fused != kPlain) {
    Floats activated = Read(yd, y);
    for (size_t i = 0; i < d.size(); i++) d[i] *= activated[i] > 0;
    if (fused == kAddActivate) Write(dzd, dz, d);
  }
  std::vector<double> sum(channels), product(channels);
  EachOfChannel(xd, [&](int c, size_t i) {
    sum[c] += d[i];
    product[c] += d[i] * (double)(a[i] - mean[c]) * scale[c];
  });
  EachOfChannel(xd, [&](int c, size_t i) {
    double normal = (double)(a[i] - mean[c]) * scale[c];
    out[i] = g[c] * scale[c] * (d[i] - sum[c] / count - normal * product[c] / count);
  });
  Write(dxd, dx, out);
  for (int c = 0; c < channels; c++) ((float *)dgamma)[c] = product[c], ((float *)dbeta)[c] = sum[c];
  return kSuccess;
}

int cudnnActivationForward(void *, Tensor activation, const void *alpha, Tensor xd, const void *x, const void *beta,
                           Tensor yd, void *y) {
  LAUNCH();
  if (activation->mode != kSigmoid && activation->mode != kRelu) gpu_double_refuse("an activation of another kind");
  Floats a = Read(xd, x);
  for (float &v : a) v = activation->mode == kSigmoid ? 1 / (1 + std::exp(-v)) : v < 0 ? 0 : v;
  Write(yd, y, a, Scalar(alpha), Scalar(beta));
  return kSuccess;
}
int cudnnActivationBackward(void *, Tensor activation, const void *alpha, Tensor yd, const void *y, Tensor dyd,
                            const void *dy, Tensor, const void *, const void *beta, Tensor dxd, void *dx) {
  LAUNCH();
  if (activation->mode != kSigmoid && activation->mode != kRelu) gpu_double_refuse("an activation of another kind");
  Floats a = Read(yd, y), d = Read(dyd, dy);
  for (size_t i = 0; i < a.size(); i++) d[i] *= activation->mode == kSigmoid ? a[i] * (1 - a[i]) : a[i] > 0;
  Write(dxd, dx, d, Scalar(alpha), Scalar(beta));
  return kSuccess;
}

// Calls f(index in x, index in y) for each entry of each window.
static void EachInWindow(Tensor pool, Tensor x, Tensor y, const std::function<void(size_t, size_t)> &f) {
  if (pool->mode == kMaxPool || pool->pad[0] || pool->pad[1]) gpu_double_refuse("a pooling other than the mean, or padded");
  for (size_t plane = 0; plane < (size_t)y->dims[0] * y->dims[1]; plane++)
    for (int i = 0; i < y->dims[2]; i++)
      for (int j = 0; j < y->dims[3]; j++)
        for (int r = 0; r < pool->window[0]; r++)
          for (int s = 0; s < pool->window[1]; s++)
            f((plane * x->dims[2] + i * pool->step[0] + r) * x->dims[3] + j * pool->step[1] + s,
              (plane * y->dims[2] + i) * y->dims[3] + j);
}
int cudnnPoolingForward(void *, Tensor pool, const void *alpha, Tensor xd, const void *x, const void *beta, Tensor yd,
                        void *y) {
  LAUNCH();
  Floats a = Read(xd, x), out(yd->Size());
  EachInWindow(pool, xd, yd, [&](size_t i, size_t j) { out[j] += a[i] / (pool->window[0] * pool->window[1]); });
  Write(yd, y, out, Scalar(alpha), Scalar(beta));
  return kSuccess;
}
int cudnnPoolingBackward(void *, Tensor pool, const void *alpha, Tensor, const void *, Tensor dyd, const void *dy,
                         Tensor, const void *, const void *beta, Tensor dxd, void *dx) {
  LAUNCH();
  Floats d = Read(dyd, dy), out(dxd->Size());
  EachInWindow(pool, dxd, dyd, [&](size_t i, size_t j) { out[i] += d[j] / (pool->window[0] * pool->window[1]); });
  Write(dxd, dx, out, Scalar(alpha), Scalar(beta));
  return kSuccess;
}

// Index in `b`, whose dimensions are 1 or those of `a`, for each index of `a` in turn.
static void Broadcast(Tensor a, Tensor b, const std::function<void(size_t, size_t)> &f) {
  if (a->nd != b->nd) gpu_double_refuse("tensors of different ranks");
  for (size_t i = 0, n = a->Size(); i < n; i++) {
    size_t rest = i, j = 0, step = 1;
    for (int d = a->nd - 1; d >= 0; d--) {
      if (b->dims[d] != 1 && b->dims[d] != a->dims[d]) gpu_double_refuse("tensors that do not broadcast");
      if (b->dims[d] != 1) j += rest % a->dims[d] * step;
      rest /= a->dims[d];
      step *= b->dims[d];
    }
    f(i, j);
  }
}
int cudnnReduceTensor(void *, Tensor reduce, void *, size_t, void *, size_t, const void *alpha, Tensor ad, const void *a,
                      const void *beta, Tensor cd, void *c) {
  LAUNCH();
  if (reduce->mode != kReduceAdd && reduce->mode != kReduceAverage) gpu_double_refuse("a reduction of another kind");
  Floats in = Read(ad, a), out(cd->Size());
  std::vector<double> sum(out.size());
  Broadcast(ad, cd, [&](size_t i, size_t j) { sum[j] += in[i]; });
  for (size_t j = 0; j < out.size(); j++) out[j] = reduce->mode == kReduceAdd ? sum[j] : sum[j] * out.size() / in.size();
  Write(cd, c, out, Scalar(alpha), Scalar(beta));
  return kSuccess;
}
int cudnnOpTensor(void *, Tensor operation, const void *alpha1, Tensor ad, const void *a, const void *alpha2, Tensor bd,
                  const void *b, const void *beta, Tensor cd, void *c) {
  LAUNCH();
  if (operation->mode != kOpAdd) gpu_double_refuse("cudnnOpTensor of another kind than a sum");
  Floats x = Read(ad, a), y = Read(bd, b), out(cd->Size());
  Broadcast(ad, bd, [&](size_t i, size_t j) { out[i] = Scalar(alpha1) * x[i] + Scalar(alpha2) * y[j]; });
  Write(cd, c, out, 1, Scalar(beta));
  return kSuccess;
}
}
