// One call of the object store seam on its way through a RADOS site.
//
// Shared by the closures that carry it on; answers exactly once, through answer() or fail(). Counts
// as one call in flight, and its bytes as bytes in flight, until it is answered.
#pragma once

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>

#include "common/base/executor.h"
#include "common/store/rados/rados_session.h"

namespace datacloud {

// What the calls of one store have in common. Outlives them all; session.close() comes first.
struct RadosCalls {
  static constexpr size_t kCallsMax = 16384;
  static constexpr size_t kBytesMax = size_t{1} << 30;  // of puts; callers bound themselves lower

  explicit RadosCalls(RadosOptions options) : session(std::move(options)) {}

  std::string place(const std::string& name) const {
    const std::string site = rados_place(session.options());
    return name.empty() ? site : site + "/" + name;
  }

  RadosSession session;
  std::atomic<size_t> calls{0};
  std::atomic<size_t> bytes{0};
  Executor workers{2, 64};   // arithmetic
  Executor blocking{2, 64};  // what librados has in no asynchronous form. Joined before the session
};

template <class T>
class RadosCall : public std::enable_shared_from_this<RadosCall<T>> {
 public:
  // Null when there are too many; `callback` has been answered then.
  static std::shared_ptr<RadosCall> start(RadosCalls& calls, const char* op,
                                          const std::string& name, size_t bytes,
                                          Callback<T> callback) {
    std::shared_ptr<RadosCall> call(new RadosCall(calls, op, name, bytes, std::move(callback)));
    const size_t calls_now = calls.calls.fetch_add(1);
    const size_t bytes_now = calls.bytes.fetch_add(bytes);
    if (calls_now < RadosCalls::kCallsMax && bytes_now <= RadosCalls::kBytesMax) return call;
    call->answer(failure(Errc::unavailable, "too many calls in flight; the site is too slow"));
    return nullptr;
  }

  // Runs `next` with the pool once its marker is known to be right; a failure is answered.
  template <class Next>
  void enter(Next next) {
    calls_.session.enter(
        [call = this->shared_from_this(), next = std::move(next)](auto pool) mutable {
          if (!pool) return call->answer(failure(pool.error()));
          call->pool_ = std::move(pool).value();
          next();
        });
  }

  RadosPool& pool() { return *pool_; }
  const std::shared_ptr<RadosPool>& shared_pool() const { return pool_; }
  RadosCalls& calls() { return calls_; }
  const std::string& name() const { return name_; }

  void answer(result<T> reply) {
    const Callback<T> callback = std::move(callback_);
    calls_.bytes.fetch_sub(bytes_);
    calls_.calls.fetch_sub(1);
    if (reply || reply.error().is(Errc::away)) return callback(std::move(reply));
    callback(failure(reply.error().in(std::string(op_) + " " + calls_.place(name_))));
  }

  // An operation on the pool failed. What is not there is `absent`, but only if the site is.
  void fail(int rc, Errc absent = Errc::not_found) {
    calls_.session.failed(pool_, rc);
    if (rc != -ENOENT) return answer(failure(rados_error(rc, "Ceph answered")));
    calls_.session.verify([call = this->shared_from_this(), absent](auto pool) {
      if (!pool) return call->answer(failure(pool.error()));
      call->answer(failure(
          absent, absent == Errc::not_found ? "no such object" : "the pool would not take it"));
    });
  }

 private:
  RadosCall(RadosCalls& calls, const char* op, std::string name, size_t bytes, Callback<T> callback)
      : calls_(calls),
        op_(op),
        name_(std::move(name)),
        bytes_(bytes),
        callback_(std::move(callback)) {}

  RadosCalls& calls_;
  const char* const op_;
  const std::string name_;
  const size_t bytes_;
  Callback<T> callback_;
  std::shared_ptr<RadosPool> pool_;
};

}  // namespace datacloud
