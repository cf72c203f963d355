// Threads and scratch memory of the kernels.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace litehrnet {

// A pool that waits awake for some 50 microseconds, as long as an operator's next step may take to come, and then sleeps.
// OpenMP's threads spin between operators, too, against MindSpore's own.
class Pool {
 public:
  static Pool &Get() {
    static Pool *pool = new Pool;  // never destroyed: its threads may outlive main()
    return *pool;
  }

  void Resize(int threads) {
    std::lock_guard<std::mutex> one_caller(caller_);
    Stop();
    Start(threads);
  }

  int64_t Threads() const { return count_of_threads_; }

  // task(i) for i in [0, count), on whichever thread is free, several neighbours at a time where there are many; returns
  // when all are done, throws what a task threw. What a task runs itself stays on its thread.
  void Run(int64_t count, const std::function<void(int64_t)> &task) {
    if (Threads() == 1 || count <= 1 || inside_) {
      for (int64_t i = 0; i < count; ++i) task(i);
      return;
    }
    std::lock_guard<std::mutex> one_caller(caller_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task, count_ = count, next_ = 0, busy_ = static_cast<int>(threads_.size());
      at_once_ = std::max<int64_t>(1, count / (kTurns * Threads())), error_ = nullptr, ++round_;
    }
    wake_.notify_all();
    Work();
    WaitAwake([this] { return busy_ == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  Pool() { Start(static_cast<int>(std::thread::hardware_concurrency())); }

  void Start(int threads) {
    stop_ = false;
    for (int i = 1; i < threads; ++i) {
      try {
        threads_.emplace_back([this, round = round_.load()] { Serve(round); });
      } catch (const std::system_error &) {
        break;  // the system gives no more: those there are do the work
      }
    }
    count_of_threads_ = static_cast<int64_t>(threads_.size()) + 1;
  }

  void Stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto &thread : threads_) thread.join();
    threads_.clear();
  }

  template <typename F>
  static void WaitAwake(const F &is_over) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
    while (!is_over() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  }

  void Serve(uint64_t round) {
    while (true) {
      WaitAwake([&] { return stop_ || round_ != round; });
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || round_ != round; });
      if (stop_) return;
      round = round_;
      lock.unlock();
      Work();
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void Work() {
    inside_ = true;
    try {
      for (int64_t i; (i = next_.fetch_add(at_once_)) < count_;) {
        for (const int64_t end = std::min(i + at_once_, count_); i < end; ++i) (*task_)(i);
      }
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      error_ = std::current_exception();
      next_ = count_;  // no more are handed out
    }
    inside_ = false;
  }

  static constexpr int64_t kTurns = 32;  // of a thread: as many as even out what other programs take of a core
  inline static thread_local bool inside_ = false;  // a task
  std::vector<std::thread> threads_;
  std::atomic<int64_t> count_of_threads_{1};  // with the caller's
  std::mutex caller_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int64_t)> *task_ = nullptr;
  std::exception_ptr error_;
  int64_t count_ = 0, at_once_ = 1;
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  std::atomic<uint64_t> round_{0};
  std::atomic<bool> stop_{false};
};

// work(n) for each of the images: one per thread, so that its tensors stay in a core's cache; where there are too few,
// one after the other, each on all threads.
template <typename F>
void EachImage(int64_t images, const F &work) {
  if (images >= Pool::Get().Threads()) return Pool::Get().Run(images, work);
  for (int64_t n = 0; n < images; ++n) work(n);
}

// Scratch memory of one thread that is kept from call to call, for fresh pages cost more than the work on them.
// Slots are independent; the contents of a slot last until its next use.
inline float *Scratch(int slot, int64_t floats) {
  struct Slot {
    std::unique_ptr<float, decltype(&std::free)> data{nullptr, &std::free};
    int64_t size = 0;
  };
  thread_local Slot slots[8];
  Slot &s = slots[slot];
  if (s.size < floats) {
    s.size = 0;
    s.data.reset(static_cast<float *>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)));
    if (!s.data) throw std::bad_alloc();
    s.size = floats;
  }
  return s.data.get();
}

}  // namespace litehrnet
