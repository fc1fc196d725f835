// wait_for: the blocking form of an asynchronous call. Included by object_store.h only.
#pragma once

#include <future>
#include <memory>

namespace datacloud {

template <class T, class Start>
result<T> wait_for(Start&& start) {
  auto promise = std::make_shared<std::promise<result<T>>>();
  auto future = promise->get_future();
  start([promise](result<T> r) { promise->set_value(std::move(r)); });
  return future.get();
}

}  // namespace datacloud
