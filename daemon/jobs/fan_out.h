// Many asynchronous calls at once, and their answers one by one. For threads that may block.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <vector>

#include "common/base/error.h"

namespace datacloud {

template <class T>
class FanOut {
 public:
  // The callback of the next call.
  std::function<void(result<T>)> slot() {
    auto promise = std::make_shared<std::promise<result<T>>>();
    futures_.push_back(promise->get_future());
    return [promise](result<T> r) { promise->set_value(std::move(r)); };
  }
  // Waits for the answer of call number `i`, counted from 0; once each.
  result<T> answer(size_t i) { return futures_[i].get(); }

 private:
  std::vector<std::future<result<T>>> futures_;
};

}  // namespace datacloud
