// The client of a served site: one thread that connects, sends, receives and answers.
//
// Invariants: a call is in exactly one of queue_ and under_way_ until it is answered, once; only
// the thread touches the connection and under_way_; callers touch queue_ under the mutex.
#include "common/store/remote/remote_store.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "common/base/check.h"
#include "common/store/object_compute.h"
#include "common/store/remote/site_connection.h"
#include "common/store/remote/site_frame.h"
#include "common/store/remote/site_messages.h"

namespace datacloud {
namespace {

constexpr Duration kPauseMin = milliseconds(100), kPauseMax = seconds(2);
constexpr Duration kHelloPatience = seconds(10);
constexpr int kTickMs = 500;  // how often silence and deadlines are looked at
constexpr uint64_t kHelloId = 1;

using Answer = SiteFrameReader::Whole;

struct Call {
  pb::StoreRequest request;
  std::vector<ByteView> parts;
  std::shared_ptr<const void> owner;
  uint64_t bytes = 0;  // of the parts and of the answer, at most
  MonotonicTime deadline;
  bool changes = false;  // asking twice is not asking once
  bool repeated = false;
  std::vector<uint64_t> answer_max;  // of each segment; more are not taken
  Callback<Answer> done;
};

class RemoteStore final : public ObjectStore, private SiteLink::Owner {
 public:
  explicit RemoteStore(RemoteStoreOptions options)
      : options_(std::move(options)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    DC_CHECK(wake_ >= 0, "an event descriptor");
    thread_ = std::thread([this] { run(); });
  }
  ~RemoteStore() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake();
    thread_.join();
    ::close(wake_);
  }

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    if (data.size() > kObjectBytesMax)
      return callback(failure(in("put", name, Error(Errc::invalid, "larger than 64 MiB"))));
    size_t bytes = 0;
    for (const auto& [key, value] : attributes) bytes += key.size() + value.size();
    if (bytes > kAttributesBytesMax)
      return callback(
          failure(in("put", name, Error(Errc::invalid, "more than 64 KiB of attributes"))));
    Call call;
    set_attributes(*call.request.mutable_put()->mutable_attributes(), attributes);
    call.parts = std::move(data.parts);
    call.owner = std::move(data.owner);
    call.changes = true;
    start<void>("put", name, options, std::move(call), std::move(callback),
                [](Answer&) -> result<void> { return success(); });
  }

  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> callback) override {
    if (ranges.size() > kSegmentsMax)
      return callback(failure(in("read", name, Error(Errc::invalid, "more than 32768 ranges"))));
    Call call;
    auto& request = *call.request.mutable_read();
    request.set_attributes(want_attributes);
    for (const auto& range : ranges) {
      auto& field = *request.add_ranges();
      field.set_offset(range.offset);
      field.set_length(range.length);
      call.answer_max.push_back(std::min(range.length, kObjectBytesMax));
    }
    start<ReadReply>("read", name, options, std::move(call), std::move(callback),
                     [n = ranges.size()](Answer& answer) -> result<ReadReply> {
                       if (answer.segments.size() != n) return failure(strange());
                       ReadReply reply;
                       TRY(reply.attributes, get_attributes(answer.head.reply().attributes()));
                       reply.object_size = answer.head.reply().object_size();
                       reply.ranges = std::move(answer.segments);
                       return reply;
                     });
  }

  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> callback) override {
    if (const char* fault = fault_of(derivation))
      return callback(failure(in("derive", name, Error(Errc::invalid, fault))));
    if (!valid_object_name(derivation.source))
      return callback(failure(in("derive", name, Error(Errc::invalid, "the source has no name"))));
    const auto kept = std::make_shared<const Derivation>(std::move(derivation));
    Call call;
    set_derivation(*call.request.mutable_derive(), *kept, call.parts);
    call.owner = kept;
    call.changes = true;
    uint64_t sent = 0;
    for (const auto& part : call.parts) sent += part.size();
    if (sent > kSegmentBytesMax)
      return callback(failure(in("derive", name, Error(Errc::invalid, "more than 64 MiB to XOR"))));
    start<DeriveReply>("derive", name, options, std::move(call), std::move(callback),
                       [sent](Answer&) -> result<DeriveReply> { return DeriveReply{sent}; });
  }

  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> callback) override {
    if (const char* fault = fault_of(combination))
      return callback(failure(in("combine", name, Error(Errc::invalid, fault))));
    Call call;
    set_combination(*call.request.mutable_combine(), combination);
    const size_t outputs = combination.coefficients.size();
    const uint64_t length = combination.ranges[0].length;
    call.answer_max.assign(outputs, length);
    start<CombineReply>("combine", name, options, std::move(call), std::move(callback),
                        [outputs, length](Answer& answer) -> result<CombineReply> {
                          if (answer.segments.size() != outputs) return failure(strange());
                          for (const auto& segment : answer.segments)
                            if (segment.size() != length) return failure(strange());
                          return CombineReply{std::move(answer.segments), outputs * length, true};
                        });
  }

  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    Call call;
    set_challenge(*call.request.mutable_prove(), challenge);
    start<AuditProof>(
        "prove", name, options, std::move(call), std::move(callback),
        [](Answer& answer) -> result<AuditProof> {
          const auto& reply = answer.head.reply();
          AuditProof proof;
          if (reply.mu().size() != kAuditBlockBytes || reply.tag().size() != proof.tag.size()) {
            return failure(strange());
          }
          proof.mu = to_bytes(as_bytes(reply.mu()));
          std::copy(reply.tag().begin(), reply.tag().end(), proof.tag.begin());
          proof.object_size = reply.object_size();
          proof.instance = reply.instance();
          proof.bytes_transferred = proof.mu.size() + proof.tag.size();
          proof.at_site = true;
          return proof;
        });
  }

  void remove(const std::string& name, OpOptions options, Callback<void> callback) override {
    Call call;
    (void)call.request.mutable_remove();
    call.changes = true;
    start<void>("remove", name, options, std::move(call), std::move(callback),
                [](Answer&) -> result<void> { return success(); });
  }

  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    if (from.size() > kHeadBytesMax / 2)
      return callback(failure(Errc::invalid, "not a continuation of a listing"));
    Call call;
    call.request.mutable_list()->set_from(from);
    call.request.mutable_list()->set_count_max(count_max);
    start<ListReply>("list", "", options, std::move(call), std::move(callback),
                     [count_max](Answer& answer) -> result<ListReply> {
                       auto& reply = *answer.head.mutable_reply();
                       if (static_cast<size_t>(reply.names_size()) > count_max)
                         return failure(strange());
                       ListReply out;
                       for (auto& name : *reply.mutable_names()) {
                         if (!valid_object_name(name)) return failure(strange());
                         out.names.push_back(std::move(name));
                       }
                       out.next = reply.next();
                       return out;
                     });
  }

  void check(OpOptions options, Callback<void> callback) override {
    Call call;
    (void)call.request.mutable_check();
    start<void>("check", "", options, std::move(call), std::move(callback),
                [](Answer&) -> result<void> { return success(); });
  }

  void capacity(OpOptions options, Callback<Capacity> callback) override {
    Call call;
    (void)call.request.mutable_capacity();
    start<Capacity>("capacity", "", options, std::move(call), std::move(callback),
                    [](Answer& answer) -> result<Capacity> {
                      const auto& reply = answer.head.reply();
                      Capacity out;
                      out.bytes_total = reply.bytes_total();
                      out.bytes_free = std::min(reply.bytes_free(), reply.bytes_total());
                      out.raw_bytes_per_byte = std::clamp(reply.raw_bytes_per_byte(), 1.0, 1000.0);
                      return out;
                    });
  }

  std::string location(const std::string& name) const override {
    return options_.address + "/" + name;
  }

 private:
  enum class State { idle, dialing, greeting, connected };

  static Error strange() {
    return Error(Errc::corrupt, "the site's server has sent an answer that does not fit");
  }
  Error in(const char* op, const std::string& name, const Error& error) const {
    return error.in(std::string(op) + " " + (name.empty() ? options_.address : location(name)));
  }

  // Queues the call; `convert` makes the answer of the reply.
  template <class T, class Convert>
  void start(const char* op, const std::string& name, const OpOptions& options, Call call,
             Callback<T> callback, Convert convert) {
    const bool of_object =
        !call.request.has_list() && !call.request.has_check() && !call.request.has_capacity();
    if (of_object && !valid_object_name(name))
      return callback(failure(Errc::invalid, "not an object name: " + name.substr(0, 200)));
    call.request.set_name(name);
    call.request.set_purpose(static_cast<uint32_t>(options.purpose));
    call.deadline = options.deadline;
    call.bytes = answer_bytes_max(call.request);
    for (const auto& part : call.parts) call.bytes += part.size();
    call.done = [this, op, name, callback = std::move(callback),
                 convert = std::move(convert)](result<Answer> answer) {
      const auto refused = [&](const Error& error) {
        // Of a site that is away there is nothing to say about the object.
        callback(failure(error.is(Errc::away) ? error.in(options_.address) : in(op, name, error)));
      };
      if (!answer) return refused(answer.error());
      if (auto good = reply_error(answer.value().head.reply()); !good) return refused(good.error());
      auto converted = convert(answer.value());
      if (!converted) return refused(converted.error());
      callback(std::move(converted));
    };
    {
      std::lock_guard lock(mutex_);
      if (calls_ < kRemoteCallsMax) {
        ++calls_;
        queue_.push_back(std::make_unique<Call>(std::move(call)));
        call.done = nullptr;
      }
    }
    if (call.done) return call.done(failure(Errc::unavailable, "too many calls in flight"));
    wake();
  }

  void wake() {
    const uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof one);
  }

  void answer(std::unique_ptr<Call> call, result<Answer> with) {
    const auto done = std::move(call->done);
    call.reset();  // releases what it keeps alive
    done(std::move(with));
    std::lock_guard lock(mutex_);
    --calls_;
  }

  // --- the thread -----------------------------------------------------------------------------

  void run() {
    std::optional<MonotonicTime> stop_at;
    for (;;) {
      {
        std::lock_guard lock(mutex_);
        if (stopping_ && !stop_at) stop_at = monotonic_now() + options_.farewell_max;
        if (stopping_ && calls_ == 0) return;
      }
      if (stop_at && monotonic_now() > *stop_at) {
        lose("the store is being closed");
        fail_queued(Error(Errc::away, "the store is being closed"));
        return;
      }
      const bool busy = step();
      wait(busy ? 0 : kTickMs);
    }
  }

  // Whatever can be done now. True: there may be more at once.
  bool step() {
    drop_late();
    switch (state_) {
      case State::idle:
        return begin();
      case State::dialing:
        return take_dialed();
      case State::greeting:
      case State::connected:
        return exchange();
    }
    return false;
  }

  void wait(int timeout_ms) {
    pollfd fds[2] = {{wake_, POLLIN, 0}, {-1, POLLIN, 0}};
    if (state_ == State::dialing) fds[1].fd = dial_->ready_fd();
    if (link_) fds[1] = {link_->stream().fd(), link_->events(), 0};
    (void)::poll(fds, 2, timeout_ms);
    uint64_t ignored = 0;
    if (fds[0].revents != 0) (void)!::read(wake_, &ignored, sizeof ignored);
  }

  // Calls whose time is over before they were sent are not sent.
  void drop_late() {
    const auto now = monotonic_now();
    if (now < look_at_) return;
    look_at_ = now + milliseconds(kTickMs);
    std::vector<std::unique_ptr<Call>> late;
    {
      std::lock_guard lock(mutex_);
      for (auto& call : queue_)
        if (call->deadline < now) late.push_back(std::move(call));
      if (!late.empty()) std::erase(queue_, nullptr);
    }
    for (auto& call : late)
      answer(std::move(call), failure(Errc::timed_out, "still queued at its deadline"));
  }

  bool nothing_queued() {
    std::lock_guard lock(mutex_);
    return queue_.empty();
  }

  bool begin() {
    if (nothing_queued()) return false;
    if (monotonic_now() < retry_at_) {
      fail_queued(Error(Errc::away, away_reason_));
      return true;
    }
    auto dial = dial_site(options_);
    if (!dial) {
      refuse(dial.error().text());
      return true;
    }
    dial_ = std::move(dial).value();
    state_ = State::dialing;
    return false;
  }

  bool take_dialed() {
    auto outcome = dial_->take();
    if (!outcome) return false;
    dial_.reset();
    state_ = State::idle;
    if (!*outcome) {
      refuse(outcome->error().text());
      return true;
    }
    link_.emplace(std::move(*outcome).value());
    state_ = State::greeting;
    next_id_ = kHelloId;
    greeted_by_ = monotonic_now() + kHelloPatience;
    pb::StoreFrame frame;
    frame.set_id(next_id_++);
    frame.mutable_request()->mutable_hello()->set_marker(options_.expected.encode());
    link_->send(make_site_frame(std::move(frame), {}, nullptr));
    return true;
  }

  bool exchange() {
    if (state_ == State::connected) (void)send_queued();
    const auto turned = link_->turn(*this);
    if (!turned) {
      const Error error = turned.error();
      lose(error.text());
      return true;
    }
    // An answer, also that to hello, may have made room for the next call.
    if (turned.value() || (state_ == State::connected && send_queued())) return true;
    const auto now = monotonic_now();
    if (state_ == State::greeting && now > greeted_by_) {
      lose("no answer to the first request");
    } else if (!under_way_.empty() &&
               now > std::max({owed_since_, link_->heard_at(), link_->moved_at()}) +
                         options_.silence_max) {
      lose("the site's server has gone silent");
    }
    return false;
  }

  // True: something was sent.
  bool send_queued() {
    for (bool any = false;; any = true) {
      std::unique_ptr<Call> call;
      {
        std::lock_guard lock(mutex_);
        if (queue_.empty() || under_way_.size() >= kRemoteRequestsMax) return any;
        if (!under_way_.empty() && bytes_under_way_ + queue_.front()->bytes > kRemoteBytesMax)
          return any;
        call = std::move(queue_.front());
        queue_.pop_front();
      }
      pb::StoreFrame frame;
      frame.set_id(next_id_);
      *frame.mutable_request() = call->request;
      if (call->deadline != MonotonicTime::max()) {
        const auto left = std::chrono::ceil<milliseconds>(call->deadline - monotonic_now()).count();
        frame.mutable_request()->set_deadline_ms(static_cast<uint64_t>(std::max<int64_t>(1, left)));
      }
      if (call->request.has_put()) {  // one object, whatever the caller's parts are
        uint64_t total = 0;
        for (const auto& part : call->parts) total += part.size();
        frame.add_segments(static_cast<uint32_t>(total));
      }
      if (under_way_.empty()) owed_since_ = monotonic_now();
      bytes_under_way_ += call->bytes;
      link_->send(make_site_frame(std::move(frame), call->parts, call->owner));
      under_way_.emplace(next_id_++, std::move(call));
    }
  }

  // Frames are those of calls that wait for them, and no longer than was asked for.
  result<bool> on_head(const pb::StoreFrame& head, uint64_t segment_bytes) override {
    if (!head.has_reply()) return failure(strange());
    if (head.id() == 0 || (state_ == State::greeting && head.id() == kHelloId)) {
      if (segment_bytes != 0) return failure(strange());
      return true;
    }
    const auto call = under_way_.find(head.id());
    if (state_ != State::connected || call == under_way_.end()) return failure(strange());
    const auto& max = call->second->answer_max;
    if (static_cast<size_t>(head.segments_size()) > max.size()) return failure(strange());
    for (int i = 0; i < head.segments_size(); ++i)
      if (head.segments(i) > max[static_cast<size_t>(i)]) return failure(strange());
    return true;
  }

  result<void> on_frame(SiteFrameReader::Whole whole) override {
    const uint64_t id = whole.head.id();
    if (id == 0) {  // an error turns us away; else it is a sign of life
      TRY(reply_error(whole.head.reply()));
      return success();
    }
    if (state_ == State::greeting) {
      TRY(reply_error(whole.head.reply()));
      state_ = State::connected;
      pause_ = kPauseMin;
      return success();
    }
    const auto found = under_way_.find(id);
    auto call = std::move(found->second);
    under_way_.erase(found);
    bytes_under_way_ -= call->bytes;
    answer(std::move(call), std::move(whole));
    return success();
  }

  // The connection is over. What was not greeted counts as not reached.
  void lose(const std::string& why) {
    const bool greeting = state_ == State::greeting;
    link_.reset();
    dial_.reset();
    state_ = State::idle;
    bytes_under_way_ = 0;
    auto lost = std::move(under_way_);
    under_way_.clear();
    std::vector<std::unique_ptr<Call>> again;
    for (auto& [id, call] : lost) {
      if (call->changes)
        answer(std::move(call), failure(Errc::timed_out, why + "; the outcome is not known"));
      else if (call->repeated)
        answer(std::move(call), failure(Errc::away, why));
      else
        again.push_back(std::move(call));
    }
    {
      std::lock_guard lock(mutex_);
      for (auto it = again.rbegin(); it != again.rend(); ++it) {
        (*it)->repeated = true;
        queue_.push_front(std::move(*it));
      }
    }
    if (greeting) refuse(why);
  }

  void refuse(const std::string& why) {
    retry_at_ = monotonic_now() + pause_;
    pause_ = std::min<Duration>(pause_ * 2, kPauseMax);
    away_reason_ = why + "; is `datacloudd --site " + options_.site + "` running there?";
    fail_queued(Error(Errc::away, away_reason_));
  }

  void fail_queued(const Error& error) {
    std::deque<std::unique_ptr<Call>> failed;
    {
      std::lock_guard lock(mutex_);
      failed.swap(queue_);
    }
    for (auto& call : failed) answer(std::move(call), failure(error));
  }

  const RemoteStoreOptions options_;
  const int wake_;
  std::mutex mutex_;
  std::deque<std::unique_ptr<Call>> queue_;
  size_t calls_ = 0;  // accepted and unanswered
  bool stopping_ = false;

  State state_ = State::idle;
  std::unique_ptr<Dial> dial_;
  std::optional<SiteLink> link_;
  std::map<uint64_t, std::unique_ptr<Call>> under_way_;
  uint64_t bytes_under_way_ = 0, next_id_ = kHelloId;
  MonotonicTime owed_since_{}, greeted_by_{}, retry_at_{}, look_at_{};
  Duration pause_ = kPauseMin;
  std::string away_reason_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<ObjectStore> make_remote_store(RemoteStoreOptions options) {
  return std::make_unique<RemoteStore>(std::move(options));
}

}  // namespace datacloud
