// MindSpore's calling convention for operators compiled ahead of time (`ops.Custom`, func_type 'aot').
#pragma once
#include <cstdint>
#include <exception>

namespace litehrnet {

// Inputs, then outputs; float32, sizes known.
class Tensors {
 public:
  Tensors(void **params, int64_t **shapes, const int *ndims, int count)
      : params_(params), shapes_(shapes), ndims_(ndims), count_(count) {}
  float *operator[](int i) const { return static_cast<float *>(params_[i]); }
  int64_t shape(int i, int axis) const { return shapes_[i][axis]; }
  int rank(int i) const { return ndims_[i]; }
  int count() const { return count_; }

 private:
  void **params_;
  int64_t **shapes_;
  const int *ndims_;
  int count_;
};

}  // namespace litehrnet

#define OPERATOR(name, function)                                                                                   \
  extern "C" int name(int count, void **params, int *ndims, int64_t **shapes, const char **, void *, void *) {     \
    try {                                                                                                          \
      litehrnet::function(litehrnet::Tensors(params, shapes, ndims, count));                                       \
    } catch (const std::exception &) {                                                                             \
      return 1;                                                                                                    \
    }                                                                                                              \
    return 0;                                                                                                      \
  }
