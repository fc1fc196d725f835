// A log store whose site another machine serves (served_log.h).
//
// The server keeps the order of appends and what fails after a failure: an append that does not
// continue the log is refused there, whatever connection it came by. Here a failure is remembered
// too, as a connection may break between two appends.
#include "daemon/journal/served_log.h"

#include <algorithm>
#include <condition_variable>
#include <future>
#include <mutex>
#include <utility>

#include "common/store/remote/site_client.h"
#include "common/store/remote/site_messages.h"
#include "daemon/journal/log_messages.h"

namespace datacloud::journal {
namespace {

class ServedLog final : public LogStore {
 public:
  ServedLog(RemoteStoreOptions options, const JournalId& journal)
      : journal_(journal), client_(std::move(options)) {}

  result<LogHead> head() override { return ask_head(call(pb::LOG_HEAD, {}), false); }

  result<LogHead> claim(const Epoch& epoch) override {
    return ask_head(call(pb::LOG_CLAIM, epoch), true);
  }

  result<void> begin(const Epoch& epoch, const LogPosition& base, Base where) override {
    auto request = call(pb::LOG_BEGIN, epoch);
    set_log_position(*request.mutable_base(), base);
    request.set_checkpoint(where == Base::checkpoint);
    TRY(ask(std::move(request), true));
    std::lock_guard lock(mutex_);
    failed_ = false;
    return success();
  }

  void append(const Epoch& epoch, LogBatch batch, Done done) override {
    {
      std::unique_lock lock(mutex_);
      const char* why = nullptr;
      if (under_way_ >= kAppendsMax) why = "more than 64 appends under way";
      if (batch.empty()) why = "an append of nothing";
      const bool failed = why == nullptr && failed_;
      if (why == nullptr && !failed) ++under_way_;
      lock.unlock();
      if (why != nullptr) return done(failure(Errc::invalid, at(why)));
      if (failed) return done(failure(Errc::stale, at("an append failed; settle it first")));
    }
    auto request = std::make_unique<SiteCall>();
    *request->request.mutable_log() = call(pb::LOG_APPEND, epoch);
    request->parts = {ByteView(*batch.bytes())};
    request->owner = batch.bytes();
    request->bytes = batch.bytes()->size();
    request->changes = true;
    request->deadline = monotonic_now() + kServedCallMax;
    request->done = [this, done = std::move(done)](result<SiteAnswer> answer) {
      result<void> appended = success();
      if (!answer) {
        appended = failure(in(answer.error()));
      } else if (auto good = reply_error(answer.value().head.reply()); !good) {
        appended = failure(in(good.error()));
      }
      if (!appended && !appended.error().is(Errc::invalid)) {
        std::lock_guard lock(mutex_);
        failed_ = true;
      }
      done(std::move(appended));
      std::lock_guard lock(mutex_);
      --under_way_;
      answered_.notify_all();
    };
    client_.start(std::move(request));
  }

  result<LogHead> settle(const Epoch& epoch) override {
    {
      std::unique_lock lock(mutex_);
      failed_ = true;
      if (!answered_.wait_for(lock, kServedCallMax, [this] { return under_way_ == 0; })) {
        return failure(Errc::timed_out, at("appends are not answered"));
      }
    }
    TRY(auto head, ask_head(call(pb::LOG_SETTLE, epoch), false));
    std::lock_guard lock(mutex_);
    failed_ = false;
    return head;
  }

  result<std::vector<LogEntry>> read(uint64_t from, size_t bytes_max) override {
    auto request = call(pb::LOG_READ, {});
    request.set_from(from);
    request.set_bytes_max(std::min(bytes_max, kReadBytesMax));
    TRY(const auto answer, ask(std::move(request), false));
    if (answer.segments.empty()) return std::vector<LogEntry>();
    auto entries = split_entries(answer.segments[0], false);
    if (!entries) return failure(in(entries.error()));
    return entries;
  }

  result<void> trim(const Epoch& epoch, uint64_t floor) override {
    auto request = call(pb::LOG_TRIM, epoch);
    request.set_from(floor);
    TRY(ask(std::move(request), true));
    return success();
  }

  result<void> seal(const Epoch& epoch) override {
    {
      std::lock_guard lock(mutex_);
      failed_ = true;
    }
    TRY(ask(call(pb::LOG_SEAL, epoch), true));
    return success();
  }

  result<void> format() {
    TRY(ask(call(pb::LOG_FORMAT, {}), true));
    return success();
  }

 private:
  pb::StoreLog call(pb::StoreLogCall kind, const Epoch& epoch) const {
    return make_log_call(kind, journal_, epoch);
  }
  std::string at(const std::string& text) const { return client_.address() + ": " + text; }
  Error in(const Error& error) const { return error.in(client_.address()); }

  // Waits for the answer, not for ever: the server may wait for a disk that hangs.
  result<SiteAnswer> ask(pb::StoreLog log, bool changes) {
    auto answered = std::make_shared<std::promise<result<SiteAnswer>>>();
    auto answer = answered->get_future();
    auto request = std::make_unique<SiteCall>();
    *request->request.mutable_log() = std::move(log);
    request->bytes = answer_bytes_max(request->request);
    if (request->bytes > 0) request->answer_max = {request->bytes};
    request->deadline = monotonic_now() + kServedCallMax;
    request->changes = changes;
    request->done = [answered](result<SiteAnswer> r) { answered->set_value(std::move(r)); };
    client_.start(std::move(request));
    if (answer.wait_for(kServedCallMax) != std::future_status::ready) {
      return failure(Errc::timed_out, at("no answer about the journal"));
    }
    auto got = answer.get();
    if (!got) return failure(in(got.error()));
    if (auto good = reply_error(got.value().head.reply()); !good) return failure(in(good.error()));
    return got;
  }

  result<LogHead> ask_head(pb::StoreLog log, bool changes) {
    TRY(const auto answer, ask(std::move(log), changes));
    auto head = get_log_head(answer.head.reply().log(), journal_);
    if (!head) return failure(in(head.error()));
    return head;
  }

  const JournalId journal_;
  std::mutex mutex_;
  std::condition_variable answered_;
  size_t under_way_ = 0;  // appends
  bool failed_ = false;   // appends are refused until one settles or begins
  SiteClient client_;     // the first to be destroyed: it answers what is left
};

}  // namespace

std::unique_ptr<LogStore> make_served_log(RemoteStoreOptions options, const JournalId& journal) {
  return std::make_unique<ServedLog>(std::move(options), journal);
}

result<void> format_served_log(RemoteStoreOptions options, const JournalId& journal) {
  return ServedLog(std::move(options), journal).format();
}

}  // namespace datacloud::journal
