// See site_requests.h. What is not a name, a range or a count is refused here or by the store.
#include "common/store/remote/site_requests.h"

#include <algorithm>

#include "common/store/object_compute.h"
#include "common/store/remote/site_messages.h"

namespace datacloud {
namespace {

struct Kept {
  std::vector<Bytes> segments;
  std::shared_ptr<const void> other;
};

// One request on its way through the store.
class Asked {
 public:
  Asked(uint64_t id, std::shared_ptr<const void> kept, std::function<void(SiteFrameOut)> answered)
      : id_(id), kept_(std::move(kept)), answered_(std::move(answered)) {}

  void refuse(const Error& error) const {
    pb::StoreReply reply;
    set_error(reply, error);
    answered_(site_answer(id_, std::move(reply), kept_));
  }
  void answer(pb::StoreReply reply, std::vector<Bytes> segments = {}) const {
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
  const uint64_t id_;
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
  Bytes data = whole.segments.empty() ? Bytes() : std::move(whole.segments[0]);
  store.put(request.name(), Payload::from(std::move(data)), std::move(attributes).value(), options,
            asked.then_done());
}

void run_read(ObjectStore& store, const pb::StoreRequest& request, const OpOptions& options,
              const Asked& asked) {
  if (static_cast<size_t>(request.read().ranges_size()) > kSegmentsMax)
    return asked.refuse(Error(Errc::invalid, "more than 32768 ranges"));
  std::vector<ByteRange> ranges;
  for (const auto& range : request.read().ranges())
    ranges.push_back({range.offset(), range.length()});
  store.read(request.name(), std::move(ranges), request.read().attributes(), options,
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
  const Asked asked(whole.head.id(), std::move(kept), std::move(answered));
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

void run_site_request(ObjectStore& store, SiteFrameReader::Whole whole,
                      std::shared_ptr<const void> kept,
                      std::function<void(SiteFrameOut)> answered) {
  const Asked asked(whole.head.id(), std::move(kept), std::move(answered));
  const pb::StoreRequest& request = whole.head.request();
  if (!request.has_put() && !request.has_derive() && !whole.segments.empty())
    return asked.refuse(Error(Errc::invalid, "a request that carries no data, with data"));
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
