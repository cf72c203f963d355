// The exchange between the branches of a stage module as one operator for inference.
#include <algorithm>
#include <utility>

#include "fusion.h"

namespace litehrnet {
namespace {

// high += low enlarged by 2, of `planes`.
void AddPlanes(float *high, const float *low, int64_t planes, int64_t height, int64_t width) {
  const int64_t size = height * width;
  Pool::Get().Run(planes, [&](int64_t i) {
    AddEnlarged(high + i * size, low + i * size / 4, height, width, 2, 1, Scratch(0, width), high + i * size);
  });
}

// The tensors of a sum: as many of full size as the branch's number + 1, perhaps one of half the size.
struct Terms {
  const float *full[4], *low;
};

// y = relu(2 * first + the others + low enlarged by 2) of `planes`; `sum`, where there is one, what goes into the ReLU.
template <int terms, bool enlarge>
void Sum(const Terms &x, int64_t planes, int64_t height, int64_t width, float *sum, float *y) {
  Pool::Get().Run(planes, [&](int64_t i) {
    float *row = Scratch(0, width);
    for (int64_t r = 0; r < height; ++r) {
      const int64_t at = (i * height + r) * width;
      if (enlarge && r % 2 == 0) Enlarge(x.low + (i * height + r) / 2 * (width / 2), width, 2, row);
      for (int64_t k = 0; k < width; ++k) {
        float v = 2 * x.full[0][at + k];
        for (int j = 1; j < terms; ++j) v += x.full[j][at + k];
        if (enlarge) v += row[k];
        if (terms == 1) sum[at + k] = v;
        y[at + k] = v < 0 ? 0 : v;
      }
    }
  });
}

// Image by image.
class Inference {
 public:
  explicit Inference(const Exchange &exchange) : e_(exchange) {}

  void Run() const {
    EachImage(e_.axes[0].number, [&](int64_t image) { Infer(image); });
  }

 private:
  const float *Input(int b, int64_t image) const { return e_.x[b] + image * e_.Size(b); }

  // y = branch j's tensor after the path to the smaller branch i
  void Down(int i, int j, const float *x, float *y) const {
    const auto &path = e_.paths[i][j];
    const int64_t size = e_.axes[j].channels * e_.Pixels(j + 1);
    float *filtered = Scratch(6, size), *between = Scratch(7, size);
    for (int b = j; b < i; ++b) {
      float *to = b + 1 == i ? y : between;
      Depthwise<2>(path[2 * (b - j)], x, 1, e_.PlaneOf(b), filtered);
      Pointwise(path[2 * (b - j) + 1], filtered, {1, e_.Pixels(b + 1)}, b + 1 < i, to);
      x = to;
    }
  }

  // The sum of the paths from smaller branches to i, in the size of the next one: in one of the two buffers.
  const float *Up(int i, int64_t image, float *low, float *high) const {
    for (int j = e_.n - 1; j > i; --j) {
      std::swap(low, high);
      Pointwise(e_.paths[i][j][0], Input(j, image), {1, e_.Pixels(j)}, false, low);
      if (j < e_.n - 1) AddPlanes(low, high, e_.axes[i].channels, e_.axes[j].height, e_.axes[j].width);
    }
    return low;
  }

  void Add(int i, const Terms &terms, float *sum, float *y) const {
    static constexpr decltype(&Sum<1, true>) kInner[] = {Sum<1, true>, Sum<2, true>, Sum<3, true>},
                                             kLast[] = {nullptr, Sum<2, false>, Sum<3, false>, Sum<4, false>};
    const Images &axes = e_.axes[i];
    (i < e_.n - 1 ? kInner : kLast)[i](terms, axes.channels, axes.height, axes.width, sum, y);
  }

  void Infer(int64_t image) const {
    int64_t largest = 0;
    for (int b = 0; b < e_.n; ++b) largest = std::max(largest, e_.Size(b));
    float *first = Scratch(5, 6 * largest), *low = first + largest, *high = low + largest, *down = high + largest;
    for (int i = 0; i < e_.n; ++i) {
      Terms terms{{Input(0, image)}, nullptr};
      for (int j = 0; j < i; ++j) {
        float *to = down + j * largest;
        Down(i, j, j == 0 ? first : Input(j, image), to);
        terms.full[j == 0 ? 0 : j + 1] = to;
      }
      if (i > 0) terms.full[1] = Input(i, image);
      if (i < e_.n - 1) terms.low = Up(i, image, low, high);
      Add(i, terms, first, e_.y[i] + image * e_.Size(i));
    }
  }

  const Exchange &e_;
};

template <int n>
void FusionInference(Tensors t) {
  Exchange exchange(t, n);
  exchange.TakeResults(t), t.End();
  Inference(exchange).Run();
}

}  // namespace
}  // namespace litehrnet

OPERATOR(Fusion2Inference, FusionInference<2>)
OPERATOR(Fusion3Inference, FusionInference<3>)
OPERATOR(Fusion4Inference, FusionInference<4>)
