// See site_requests.h. What is not a name, a range or a count is refused here or by the store.
#include "common/store/remote/site_requests.h"

#include <algorithm>

#include "common/store/object_compute.h"
#include "common/store/read_into.h"
#include "common/store/remote/site_messages.h"

namespace datacloud {
namespace {

struct Kept {
  std::vector<Bytes> segments;
  std::shared_ptr<const void> other;
};

// What a put writes from lives as long as the payload.
struct KeptWindow {
  std::shared_ptr<const SiteWindow> window;
  std::shared_ptr<const void> other;
};

// One request on its way through the store.
class Asked {
 public:
  Asked(const pb::StoreFrame& head, std::shared_ptr<const SiteWindow> window,
        std::shared_ptr<const void> kept, std::function<void(SiteFrameOut)> answered)
      : id_(head.id()),
        window_(std::move(window)),
        kept_(std::move(kept)),
        answered_(std::move(answered)) {
    if (!window_) return;
    for (const auto& space : head.request().space())
      spaces_.push_back({space.offset(), space.length()});
  }

  const SiteWindow* window() const { return window_.get(); }
  const std::vector<ByteRange>& spaces() const { return spaces_; }
  std::shared_ptr<const void> keep_window() const {
    return std::make_shared<const KeptWindow>(KeptWindow{window_, kept_});
  }

  void refuse(const Error& error) const {
    pb::StoreReply reply;
    set_error(reply, error);
    answered_(site_answer(id_, std::move(reply), kept_));
  }
  // The bytes are in the spaces already, from the beginning of each.
  void answer_in_window(pb::StoreReply reply, const std::vector<uint64_t>& sizes) const {
    pb::StoreFrame frame;
    frame.set_id(id_);
    for (size_t i = 0; i < sizes.size(); ++i) {
      frame.add_segments(static_cast<uint32_t>(sizes[i]));
      frame.add_in_window(spaces_[i].offset + 1);
    }
    *frame.mutable_reply() = std::move(reply);
    answered_(make_site_frame(std::move(frame), {}, kept_));
  }
  void answer(pb::StoreReply reply, std::vector<Bytes> segments = {}) const {
    if (!segments.empty() && put_in_spaces(segments)) {
      std::vector<uint64_t> sizes;
      for (const auto& segment : segments) sizes.push_back(segment.size());
      return answer_in_window(std::move(reply), sizes);
    }
    pb::StoreFrame frame;
    frame.set_id(id_);
    for (const auto& segment : segments) frame.add_segments(static_cast<uint32_t>(segment.size()));
    *frame.mutable_reply() = std::move(reply);
    auto kept = std::make_shared<const Kept>(Kept{std::move(segments), kept_});
    std::vector<ByteView> parts(kept->segments.begin(), kept->segments.end());
    answered_(make_site_frame(std::move(frame), std::move(parts), std::move(kept)));
  }
  template <class T>
  Callback<T> then(std::function<void(const Asked&, T&)> success) const {
    return [asked = *this, success = std::move(success)](result<T> done) {
      if (!done) return asked.refuse(done.error());
      success(asked, done.value());
    };
  }
  Callback<void> then_done() const {
    return [asked = *this](result<void> done) {
      if (!done) return asked.refuse(done.error());
      asked.answer({});
    };
  }

 private:
  bool put_in_spaces(const std::vector<Bytes>& segments) const {
    if (spaces_.size() != segments.size()) return false;
    for (size_t i = 0; i < segments.size(); ++i)
      if (segments[i].size() > spaces_[i].length) return false;
    for (size_t i = 0; i < segments.size(); ++i)
      std::copy(segments[i].begin(), segments[i].end(),
                window_->at(spaces_[i].offset, spaces_[i].length).begin());
    return true;
  }

  const uint64_t id_;
  const std::shared_ptr<const SiteWindow> window_;
  std::vector<ByteRange> spaces_;  // offered for the answer's segments
  const std::shared_ptr<const void> kept_;
  const std::function<void(SiteFrameOut)> answered_;
};

void run_put(ObjectStore& store, SiteFrameReader::Whole& whole, const OpOptions& options,
             const Asked& asked) {
  auto& request = *whole.head.mutable_request();
  if (whole.segments.size() > 1)
    return asked.refuse(Error(Errc::invalid, "an object comes in one piece"));
  auto attributes = get_attributes(request.put().attributes());
  if (!attributes) return asked.refuse(Error(Errc::invalid, attributes.error().text()));
  Payload payload;
  if (is_in_window(whole.head, 0)) {
    payload.parts = {asked.window()->at(whole.head.in_window(0) - 1, whole.head.segments(0))};
    payload.owner = asked.keep_window();
  } else if (!whole.segments.empty()) {
    payload = Payload::from(std::move(whole.segments[0]));
  }
  store.put(request.name(), std::move(payload), std::move(attributes).value(), options,
            asked.then_done());
}

// Straight into the window, where store and request allow. False: not.
bool read_into_window(ObjectStore& store, const std::string& name,
                      const std::vector<ByteRange>& ranges, bool want_attributes,
                      const OpOptions& options, const Asked& asked) {
  auto* into = dynamic_cast<ReadsInto*>(&store);
  const auto& spaces = asked.spaces();
  if (into == nullptr || spaces.empty() || spaces.size() != ranges.size()) return false;
  std::vector<MutableByteView> views;
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (spaces[i].length < ranges[i].length) return false;
    views.push_back(asked.window()->at(spaces[i].offset, spaces[i].length));
  }
  into->read_into(name, ranges, std::move(views), asked.keep_window(), want_attributes, options,
                  asked.then<ReadIntoReply>([](const Asked& self, ReadIntoReply& read) {
                    pb::StoreReply reply;
                    set_attributes(*reply.mutable_attributes(), read.attributes);
                    reply.set_object_size(read.object_size);
                    self.answer_in_window(std::move(reply), read.sizes);
                  }));
  return true;
}

void run_read(ObjectStore& store, const pb::StoreRequest& request, const OpOptions& options,
              const Asked& asked) {
  if (static_cast<size_t>(request.read().ranges_size()) > kSegmentsMax)
    return asked.refuse(Error(Errc::invalid, "more than 32768 ranges"));
  std::vector<ByteRange> ranges;
  for (const auto& range : request.read().ranges())
    ranges.push_back({range.offset(), range.length()});
  const bool attributes = request.read().attributes();
  if (read_into_window(store, request.name(), ranges, attributes, options, asked)) return;
  store.read(request.name(), std::move(ranges), attributes, options,
             asked.then<ReadReply>([](const Asked& self, ReadReply& read) {
               pb::StoreReply reply;
               set_attributes(*reply.mutable_attributes(), read.attributes);
               reply.set_object_size(read.object_size);
               self.answer(std::move(reply), std::move(read.ranges));
             }));
}

void run_prove(ObjectStore& store, const pb::StoreRequest& request, const OpOptions& options,
               const Asked& asked) {
  const auto challenge = get_challenge(request.prove());
  if (!challenge) return asked.refuse(challenge.error());
  store.prove(request.name(), challenge.value(), options,
              asked.then<AuditProof>([](const Asked& self, AuditProof& proof) {
                pb::StoreReply reply;
                reply.set_mu(std::string(as_text(proof.mu)));
                reply.set_tag(std::string(as_text(proof.tag)));
                reply.set_object_size(proof.object_size);
                reply.set_instance(proof.instance);
                self.answer(std::move(reply));
              }));
}

void run_list(ObjectStore& store, const pb::StoreRequest& request, const OpOptions& options,
              const Asked& asked) {
  const auto count =
      static_cast<size_t>(std::min<uint64_t>(request.list().count_max(), kSiteListNamesMax));
  store.list(request.list().from(), count, options,
             asked.then<ListReply>([](const Asked& self, ListReply& list) {
               pb::StoreReply reply;
               for (auto& name : list.names) reply.add_names(std::move(name));
               reply.set_next(std::move(list.next));
               self.answer(std::move(reply));
             }));
}

void run_capacity(ObjectStore& store, const OpOptions& options, const Asked& asked) {
  store.capacity(options, asked.then<ObjectStore::Capacity>(
                              [](const Asked& self, ObjectStore::Capacity& capacity) {
                                pb::StoreReply reply;
                                reply.set_bytes_total(capacity.bytes_total);
                                reply.set_bytes_free(capacity.bytes_free);
                                reply.set_raw_bytes_per_byte(capacity.raw_bytes_per_byte);
                                self.answer(std::move(reply));
                              }));
}

}  // namespace

SiteFrameOut site_answer(uint64_t id, pb::StoreReply reply, std::shared_ptr<const void> kept) {
  pb::StoreFrame frame;
  frame.set_id(id);
  *frame.mutable_reply() = std::move(reply);
  return make_site_frame(std::move(frame), {}, std::move(kept));
}

void run_site_log(SiteLogService* service, const SiteMarker& marker, SiteFrameReader::Whole whole,
                  std::shared_ptr<const void> kept, std::function<void(SiteFrameOut)> answered) {
  const Asked asked(whole.head, nullptr, std::move(kept), std::move(answered));
  if (service == nullptr)
    return asked.refuse(Error(Errc::unsupported, "this server's site holds no journal"));
  if (whole.segments.size() > 1)
    return asked.refuse(Error(Errc::invalid, "entries come in one piece"));
  Bytes data = whole.segments.empty() ? Bytes() : std::move(whole.segments[0]);
  service->run(marker, std::move(*whole.head.mutable_request()->mutable_log()), std::move(data),
               [asked](result<SiteLogService::Answer> answer) {
                 if (!answer) return asked.refuse(answer.error());
                 std::vector<Bytes> segments;
                 if (!answer.value().data.empty())
                   segments.push_back(std::move(answer.value().data));
                 asked.answer(std::move(answer.value().reply), std::move(segments));
               });
}

bool changes_site(const pb::StoreRequest& request) {
  return request.has_put() || request.has_derive() || request.has_remove();
}

bool fits_window(const pb::StoreFrame& head, const SiteWindow* window) {
  for (int i = 0; i < head.in_window_size(); ++i)
    if (head.in_window(i) != 0 &&
        (window == nullptr || !window->holds(head.in_window(i) - 1, head.segments(i)))) {
      return false;
    }
  for (const auto& space : head.request().space())
    if (window == nullptr || !window->holds(space.offset(), space.length())) return false;
  return true;
}

void run_site_request(ObjectStore& store, SiteFrameReader::Whole whole,
                      std::shared_ptr<const SiteWindow> window, std::shared_ptr<const void> kept,
                      std::function<void(SiteFrameOut)> answered) {
  const Asked asked(whole.head, std::move(window), std::move(kept), std::move(answered));
  const pb::StoreRequest& request = whole.head.request();
  if (!request.has_put() && !request.has_derive() && !whole.segments.empty())
    return asked.refuse(Error(Errc::invalid, "a request that carries no data, with data"));
  if (!request.has_put() && whole.head.in_window_size() != 0)
    return asked.refuse(Error(Errc::invalid, "what is derived from comes with its frame"));
  OpOptions options;
  if (request.purpose() < kPurposeCount) options.purpose = static_cast<Purpose>(request.purpose());
  constexpr uint64_t day_ms = 24ull * 3600 * 1000;
  if (request.deadline_ms() != 0)
    options.deadline = monotonic_now() + milliseconds(std::min(request.deadline_ms(), day_ms));
  const std::string name = request.name();
  switch (request.op_case()) {
    case pb::StoreRequest::kPut:
      return run_put(store, whole, options, asked);
    case pb::StoreRequest::kRead:
      return run_read(store, request, options, asked);
    case pb::StoreRequest::kDerive: {
      auto derivation = get_derivation(request.derive(), std::move(whole.segments));
      if (!derivation) return asked.refuse(derivation.error());
      return store.derive(
          name, std::move(derivation).value(), options,
          asked.then<DeriveReply>([](const Asked& self, DeriveReply&) { self.answer({}); }));
    }
    case pb::StoreRequest::kCombine: {
      Combination combination = get_combination(request.combine());
      if (const char* fault = fault_of(combination))
        return asked.refuse(Error(Errc::invalid, fault));
      return store.combine(name, std::move(combination), options,
                           asked.then<CombineReply>([](const Asked& self, CombineReply& combined) {
                             self.answer({}, std::move(combined.outputs));
                           }));
    }
    case pb::StoreRequest::kProve:
      return run_prove(store, request, options, asked);
    case pb::StoreRequest::kRemove:
      return store.remove(name, options, asked.then_done());
    case pb::StoreRequest::kList:
      return run_list(store, request, options, asked);
    case pb::StoreRequest::kCheck:
      return store.check(options, asked.then_done());
    case pb::StoreRequest::kCapacity:
      return run_capacity(store, options, asked);
    default:
      asked.refuse(Error(Errc::unsupported,
                         "the site's server does not know this request; upgrade it first"));
  }
}

}  // namespace datacloud
