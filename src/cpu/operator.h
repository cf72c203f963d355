// MindSpore's calling convention for operators compiled ahead of time (`ops.Custom`, func_type 'aot').
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <initializer_list>
#include <numeric>
#include <stdexcept>
#include <string>

namespace litehrnet {

// Axes of a tensor (N, C, H, W).
struct Images {
  int64_t number, channels, height, width;
};

// A tensor of any shape.
struct Values {
  float *data;
  int64_t size;
};

// What training saves for the gradient: one tensor, of which each takes its values. MindSpore compiles the longer the more
// tensors there are.
class Saved {
 public:
  explicit Saved(const Values &all) : next_(all.data), left_(all.size) {}

  float *Take(int64_t size) {
    float *values = next_;
    next_ += size, left_ -= size;
    return values;
  }

  // All have been taken.
  void End() const {
    if (left_ != 0) throw std::invalid_argument("what training saves is not what this kernel is made for");
  }

 private:
  float *next_;
  int64_t left_;
};

// The tensors of a call, inputs, then outputs. An operator takes one after the other and says what it has to be; a call
// with other tensors is refused before any work.
class Tensors {
 public:
  Tensors(int count, void **params, const int *ranks, int64_t **shapes, const char **types)
      : count_(count), params_(params), ranks_(ranks), shapes_(shapes), types_(types) {}

  // An axis of the tensor that stands `ahead` places after the last one taken.
  int64_t Axis(int ahead, int axis) const {
    const int i = next_ + ahead;
    Require(i < count_ && axis < ranks_[i] && shapes_[i][axis] > 0, i);
    return shapes_[i][axis];
  }

  Images Axes(int ahead) const { return {Axis(ahead, 0), Axis(ahead, 1), Axis(ahead, 2), Axis(ahead, 3)}; }

  // The next tensor: float32 of this shape.
  float *Take(std::initializer_list<int64_t> shape) {
    const int i = next_;
    const Values values = TakeValues();
    Require(ranks_[i] == static_cast<int>(shape.size()) && std::equal(shape.begin(), shape.end(), shapes_[i]), i);
    return values.data;
  }

  // The next tensor: float32, of so many values where that is known.
  Values TakeValues(int64_t size = -1) {
    const int i = next_++;
    Require(i < count_ && std::strcmp(types_[i], "float32") == 0 && (size < 0 || size == Size(i)), i);
    return {static_cast<float *>(params_[i]), Size(i)};
  }

  // The next tensor: what training saves.
  Saved TakeSaved() {
    Require(next_ < count_ && ranks_[next_] == 1, next_);
    return Saved(TakeValues());
  }

  // The next tensor: one int32.
  int32_t *TakeCounter() {
    const int i = next_++;
    Require(i < count_ && std::strcmp(types_[i], "int32") == 0 && Size(i) == 1, i);
    return static_cast<int32_t *>(params_[i]);
  }

  float *TakeImages(const Images &axes) { return Take({axes.number, axes.channels, axes.height, axes.width}); }

  // All have been taken.
  void End() const { Require(next_ == count_, next_); }

 private:
  int64_t Size(int i) const {
    return std::accumulate(shapes_[i], shapes_[i] + ranks_[i], int64_t{1}, std::multiplies<int64_t>());
  }

  static void Require(bool fits, int i) {
    if (!fits) throw std::invalid_argument("tensor " + std::to_string(i) + " is not what this kernel is made for");
  }

  int count_, next_ = 0;
  void **params_;
  const int *ranks_;
  int64_t **shapes_;
  const char **types_;
};

}  // namespace litehrnet

#define OPERATOR(name, ...)                                                                                         \
  extern "C" int name(int count, void **params, int *ranks, int64_t **shapes, const char **types, void *, void *) { \
    try {                                                                                                           \
      litehrnet::__VA_ARGS__(litehrnet::Tensors(count, params, ranks, shapes, types));                              \
    } catch (const std::exception &error) {                                                                         \
      std::fprintf(stderr, #name ": %s\n", error.what());                                                           \
      return 1;                                                                                                     \
    }                                                                                                               \
    return 0;                                                                                                       \
  }
