// Connecting in the background and verifying the marker (rados_session.h).
//
// Invariants: waiting_ is empty unless a marker read is under way; next_ is empty unless one is,
// or the first attempt to connect is; a pool and its connection are never freed on a thread of
// librados: retired_ keeps them until the session's thread holds the last reference.
#include "common/store/rados/rados_session.h"

#include <cerrno>

#include "common/base/log.h"

namespace datacloud {
namespace {

constexpr seconds kConnectTimeout{5};      // each second attempt
constexpr seconds kConnectTimeoutMax{10};  // the others: far sites take a dozen round trips
constexpr seconds kRetryInterval{1};
constexpr size_t kMarkerBytesMax = 4096;

Error closed_error() { return Error(Errc::timed_out, "the store was closed"); }

}  // namespace

struct RadosSession::MarkerRead {
  std::shared_ptr<RadosPool> pool;
  MonotonicTime began;
  librados::bufferlist bytes;
};

RadosSession::RadosSession(RadosOptions options)
    : options_(std::move(options)), thread_([this] { run(); }) {}

RadosSession::~RadosSession() {
  close();
  thread_.join();
  retired_.clear();
  pool_.reset();
}

void RadosSession::close() {
  std::vector<Ready> left;
  std::vector<std::shared_ptr<RadosPool>> pools;
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    unreachable_ = closed_error();
    if (!reading_) left.swap(next_);
    pools = retired_;
    if (pool_) pools.push_back(pool_);
  }
  wake_.notify_all();
  answer(left, failure(closed_error()));
  for (auto& pool : pools) pool->close();  // a marker read under way answers the others
}

void RadosSession::answer(std::vector<Ready>& waiting,
                          const result<std::shared_ptr<RadosPool>>& pool) {
  for (auto& ready : waiting) ready(pool);
  waiting.clear();
}

// --- The thread -------------------------------------------------------------------------------

void RadosSession::run() {
  std::unique_lock lock(mutex_);
  for (uint64_t attempts = 0; !stop_;) {
    if (!pool_ || reopen_ || reconnect_) {
      lock.unlock();
      opened(attempt(attempts++ % 2 == 0 ? kConnectTimeout : kConnectTimeoutMax));
      lock.lock();
      // Not at once again, whatever the marker says meanwhile.
      wake_.wait_for(lock, kRetryInterval, [this] { return stop_; });
    } else {
      wake_.wait_for(lock, kRetryInterval, [this] { return stop_ || reopen_ || reconnect_; });
    }
    retire();
  }
}

result<std::shared_ptr<RadosPool>> RadosSession::attempt(seconds timeout) {
  std::shared_ptr<RadosCluster> cluster;
  {
    std::lock_guard lock(mutex_);
    if (pool_ && !reconnect_) cluster = pool_->shared_cluster();
    reopen_ = reconnect_ = false;
  }
  if (!cluster) {
    TRY(cluster, RadosCluster::connect(options_, timeout));
  }
  TRY(auto io, cluster->open_pool());
  return std::make_shared<RadosPool>(std::move(cluster), std::move(io));
}

void RadosSession::opened(result<std::shared_ptr<RadosPool>> attempted) {
  std::vector<Ready> left;
  std::optional<Error> error;
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    if (attempted && pool_ && attempted.value()->shared_cluster() == pool_->shared_cluster() &&
        attempted.value()->io().get_id() == pool_->io().get_id()) {
      return;  // it is the pool we have
    }
    if (pool_) retired_.push_back(std::move(pool_));
    verified_ever_ = false;
    if (attempted) {
      pool_ = attempted.value();
      unreachable_.reset();
      if (reading_ || next_.empty()) return;
    } else {
      error = attempted.error();
      if (!unreachable_ || unreachable_->text() != error->text()) {
        spdlog::warn("site {}: {}", options_.site, error->text());
      }
      unreachable_ = error;
      if (reading_) return;  // it answers them
      left.swap(next_);
    }
  }
  if (error) return answer(left, failure(*error));
  start_marker_read(attempted.value());
}

// Called with the lock. Frees old pools that nobody uses any more, on this thread.
void RadosSession::retire() {
  std::erase_if(retired_, [](const auto& pool) { return pool.use_count() == 1; });
}

// --- Marker -----------------------------------------------------------------------------------

bool RadosSession::fresh() const {
  return verified_ever_ && monotonic_now() - verified_ < kMarkerFresh;
}

// Called with the lock: why there is nothing to wait for.
std::optional<Error> RadosSession::refusal() const {
  if (stop_) return closed_error();
  if (!pool_ && unreachable_) return unreachable_;
  return std::nullopt;
}

void RadosSession::enter(Ready ready) {
  std::shared_ptr<RadosPool> pool;
  std::optional<Error> refused;
  bool read = false;
  {
    std::lock_guard lock(mutex_);
    refused = refusal();
    if (!refused && pool_ && fresh()) {
      pool = pool_;
    } else if (!refused) {
      read = pool_ && !reading_;
      if (read) pool = pool_;
      (reading_ ? waiting_ : next_).push_back(std::move(ready));
    }
  }
  if (refused) return ready(failure(*refused));
  if (read) return start_marker_read(std::move(pool));
  if (pool) ready(std::move(pool));
}

void RadosSession::verify(Ready ready) {
  std::shared_ptr<RadosPool> pool;
  std::optional<Error> refused;
  {
    std::lock_guard lock(mutex_);
    refused = refusal();
    if (!refused) {
      next_.push_back(std::move(ready));
      if (!reading_) pool = pool_;
    }
  }
  if (refused) return ready(failure(*refused));
  if (pool) start_marker_read(std::move(pool));
}

// Two callers may get here at once: the second finds the first's read under way.
void RadosSession::start_marker_read(std::shared_ptr<RadosPool> pool) {
  {
    std::lock_guard lock(mutex_);
    if (reading_) return;
    reading_ = true;
    waiting_.swap(next_);
  }
  auto read = std::make_shared<MarkerRead>();
  read->pool = std::move(pool);
  read->began = monotonic_now();
  librados::ObjectReadOperation op;
  op.read(0, kMarkerBytesMax + 1, &read->bytes, nullptr);
  read->pool->read(std::string(kRadosMarkerName), op,
                   [this, read](int rc) { marker_read(*read, rc); });
}

void RadosSession::marker_read(const MarkerRead& read, int rc) {
  const std::string bytes = rc < 0 ? std::string() : read.bytes.to_str();
  const auto found = decode_rados_marker(rc, bytes, options_);
  const auto matched = match_rados_marker(found, options_);
  failed(read.pool, rc);
  std::vector<Ready> done;
  std::shared_ptr<RadosPool> again;
  bool current;
  std::optional<Error> refused;
  {
    std::lock_guard lock(mutex_);
    reading_ = false;
    current = read.pool == pool_;
    if (current) {
      verified_ever_ = matched.has_value();
      verified_ = read.began;
    }
    if (!matched && matched.error().is(Errc::away)) reopen_ = true;
    done.swap(waiting_);
    refused = refusal();
    if (!current && !refused) {  // another pool took its place: they wait for that one's marker
      next_.insert(next_.begin(), std::make_move_iterator(done.begin()),
                   std::make_move_iterator(done.end()));
      done.clear();
    }
    if (refused) {
      done.insert(done.end(), std::make_move_iterator(next_.begin()),
                  std::make_move_iterator(next_.end()));
      next_.clear();
    } else if (!next_.empty()) {
      again = pool_;
    }
  }
  if (!matched) wake_.notify_all();
  if (refused) {
    answer(done, failure(*refused));
  } else if (matched) {
    answer(done, read.pool);
  } else {
    answer(done, failure(matched.error()));
  }
  if (again) start_marker_read(std::move(again));
}

void RadosSession::failed(const std::shared_ptr<RadosPool>& pool, int rc) {
  if (!rados_connection_lost(rc)) return;
  {
    std::lock_guard lock(mutex_);
    if (pool != pool_ || stop_) return;
    reconnect_ = true;
    verified_ever_ = false;
  }
  wake_.notify_all();
}

}  // namespace datacloud
