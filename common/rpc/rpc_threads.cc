// See rpc_threads.h.
#include "common/rpc/rpc_threads.h"

#include <algorithm>

namespace datacloud {
namespace {

thread_local bool is_inside = false;

}  // namespace

bool RpcThreads::inside() { return is_inside; }

RpcThreads::RpcThreads(size_t count) {
  for (size_t i = 0; i < std::max<size_t>(1, count); ++i)
    threads_.push_back(std::make_unique<RpcThread>());
}

void RpcThreads::start() {
  for (auto& one : threads_) {
    if (one->thread.joinable()) continue;
    one->io.restart();
    one->thread = std::thread([&io = one->io] {
      is_inside = true;
      const auto work = boost::asio::make_work_guard(io);
      io.run();
    });
  }
}

void RpcThreads::stop() {
  for (auto& one : threads_) one->io.stop();
  for (auto& one : threads_)
    if (one->thread.joinable()) one->thread.join();
}

RpcThread& RpcThreads::least_used() {
  return **std::min_element(threads_.begin(), threads_.end(), [](const auto& a, const auto& b) {
    return a->connections < b->connections;
  });
}

}  // namespace datacloud
