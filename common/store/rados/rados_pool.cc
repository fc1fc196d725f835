// Operations in flight (rados_pool.h).
//
// A flight is in flights_ from before librados knows it until it is answered, and its completion
// is released only after it has left the set: so whatever close() finds there can be cancelled.
// Cancelling never runs an answer on the canceller's thread (librados hands it to its own).
#include "common/store/rados/rados_pool.h"

#include <cerrno>

namespace datacloud {

struct RadosPool::Flight {
  RadosPool* pool;
  Done done;
  librados::AioCompletion* completion;
};

RadosPool::~RadosPool() { close(); }

void RadosPool::landed(rados_completion_t, void* flight) {
  auto* landed = static_cast<Flight*>(flight);
  landed->pool->finish(landed, landed->completion->get_return_value());
}

void RadosPool::finish(Flight* flight, int rc) {
  {
    std::lock_guard lock(mutex_);
    flights_.erase(flight);
    ++answering_;
  }
  flight->completion->release();
  flight->done(rc);
  delete flight;
  std::lock_guard lock(mutex_);
  if (--answering_ == 0) idle_.notify_all();
}

void RadosPool::fly(Done done, const std::function<int(librados::AioCompletion*)>& start) {
  auto* flight = new Flight{this, std::move(done), nullptr};
  flight->completion = librados::Rados::aio_create_completion(flight, &RadosPool::landed);
  bool closed;
  {
    std::lock_guard lock(mutex_);
    closed = closed_;
    flights_.insert(flight);
    ++starting_;
  }
  const int rc = closed ? -ESHUTDOWN : start(flight->completion);
  if (rc < 0) finish(flight, rc);  // librados has not taken it and never answers
  std::lock_guard lock(mutex_);
  if (--starting_ == 0) idle_.notify_all();
}

void RadosPool::read(const std::string& name, librados::ObjectReadOperation& op, Done done) {
  fly(std::move(done), [&](librados::AioCompletion* completion) {
    return io_.aio_operate(name, completion, &op, nullptr);
  });
}

void RadosPool::write(const std::string& name, librados::ObjectWriteOperation& op, Done done,
                      int flags) {
  fly(std::move(done), [&](librados::AioCompletion* completion) {
    return io_.aio_operate(name, completion, &op, flags | librados::OPERATION_FULL_TRY);
  });
}

bool RadosPool::closing() {
  std::lock_guard lock(mutex_);
  return closed_;
}

void RadosPool::close() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  idle_.wait(lock, [this] { return starting_ == 0; });
  for (auto* flight : flights_) io_.aio_cancel(flight->completion);
  idle_.wait(lock, [this] { return flights_.empty() && answering_ == 0 && starting_ == 0; });
}

}  // namespace datacloud
