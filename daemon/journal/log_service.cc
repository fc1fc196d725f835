// The server's end of a served log (served_log.h).
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "daemon/journal/log_messages.h"
#include "daemon/journal/served_log.h"

namespace datacloud::journal {
namespace {

class LogService final : public SiteLogService {
 public:
  explicit LogService(LogServiceOptions options)
      : options_(std::move(options)), thread_([this] { work(); }) {}

  ~LogService() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  // How many wait, and their bytes, is bounded by the server.
  void run(const SiteMarker& marker, pb::StoreLog call, Bytes data,
           std::function<void(result<Answer>)> done) override {
    {
      std::lock_guard lock(mutex_);
      asked_.push_back({marker, std::move(call), std::move(data), std::move(done)});
    }
    wake_.notify_one();
  }

 private:
  struct AskedCall {
    SiteMarker marker;
    pb::StoreLog call;
    Bytes data;
    std::function<void(result<Answer>)> done;
  };

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || !asked_.empty(); });
      if (asked_.empty()) return;
      AskedCall next = std::move(asked_.front());
      asked_.pop_front();
      lock.unlock();
      serve(std::move(next));
      lock.lock();
    }
  }

  void serve(AskedCall asked) {
    if (asked.call.call() == pb::LOG_APPEND) return append(std::move(asked));
    asked.done(answer(asked.marker, asked.call));
  }

  void append(AskedCall asked) {
    auto log = open(asked.marker, asked.call);
    if (!log) return asked.done(failure(log.error()));
    auto entries = split_entries(asked.data, true);
    // What does not decode was damaged on its way: nothing has changed.
    if (!entries) return asked.done(failure(Errc::invalid, entries.error().text()));
    auto batch = LogBatch::of(entries.value());
    if (!batch) return asked.done(failure(batch.error()));
    log.value()->append(epoch_of(asked.call), std::move(batch).value(),
                        [done = std::move(asked.done)](const result<void>& appended) {
                          if (!appended) return done(failure(appended.error()));
                          done(Answer());
                        });
  }

  result<Answer> answer(const SiteMarker& marker, const pb::StoreLog& call) {
    Answer out;
    TRY(const JournalId journal, journal_of(call));
    if (call.call() == pb::LOG_FORMAT) {
      TRY(options_.format(marker, journal));
      return out;
    }
    TRY(LogStore* const log, open(marker, call));
    const Epoch epoch = epoch_of(call);
    switch (call.call()) {
      case pb::LOG_HEAD:
        return head_answer(log->head());
      case pb::LOG_CLAIM:
        return head_answer(log->claim(epoch));
      case pb::LOG_SETTLE:
        return head_answer(log->settle(epoch));
      case pb::LOG_BEGIN: {
        TRY(const auto base, get_log_position(call.base()));
        TRY(log->begin(epoch, base, call.checkpoint() ? Base::checkpoint : Base::in_log));
        return out;
      }
      case pb::LOG_READ: {
        TRY(const auto entries,
            log->read(call.from(), std::min<uint64_t>(call.bytes_max(), kReadBytesMax)));
        out.data = join_entries(entries);
        return out;
      }
      case pb::LOG_TRIM: {
        TRY(log->trim(epoch, call.from()));
        return out;
      }
      case pb::LOG_SEAL: {
        TRY(log->seal(epoch));
        return out;
      }
      default:
        return failure(
            Errc::unsupported,
            "the site's server does not know this call of the journal; upgrade it first");
    }
  }

  static Epoch epoch_of(const pb::StoreLog& call) { return {call.epoch(), call.nonce()}; }

  static result<Answer> head_answer(const result<LogHead>& head) {
    if (!head) return failure(head.error());
    Answer out;
    set_log_head(*out.reply.mutable_log(), head.value());
    return out;
  }

  result<LogStore*> open(const SiteMarker& marker, const pb::StoreLog& call) {
    TRY(const JournalId journal, journal_of(call));
    const auto key = std::pair(marker.encode(), journal);
    if (const auto found = logs_.find(key); found != logs_.end()) return found->second.get();
    if (logs_.size() >= kServedLogsMax) {
      return failure(Errc::unavailable, "the site is asked for too many journals");
    }
    TRY(auto log, options_.open(marker, journal));
    return logs_.emplace(key, std::move(log)).first->second.get();
  }

  const LogServiceOptions options_;
  std::map<std::pair<std::string, JournalId>, std::unique_ptr<LogStore>> logs_;  // of the thread
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<AskedCall> asked_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<SiteLogService> make_log_service(LogServiceOptions options) {
  return std::make_unique<LogService>(std::move(options));
}

}  // namespace datacloud::journal
