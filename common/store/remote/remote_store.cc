// The object store seam as requests to the server of a site, and answers back (remote_store.h).
// What moves them is SiteClient.
#include "common/store/remote/remote_store.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/store/hidden_names.h"
#include "common/store/object_compute.h"
#include "common/store/remote/site_client.h"
#include "common/store/remote/site_messages.h"

namespace datacloud {
namespace {

class RemoteStore final : public ObjectStore {
 public:
  explicit RemoteStore(RemoteStoreOptions options) : client_(std::move(options)) {}

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    if (data.size() > kObjectBytesMax)
      return callback(failure(in("put", name, Error(Errc::invalid, "larger than 64 MiB"))));
    size_t bytes = 0;
    for (const auto& [key, value] : attributes) bytes += key.size() + value.size();
    if (bytes > kAttributesBytesMax)
      return callback(
          failure(in("put", name, Error(Errc::invalid, "more than 64 KiB of attributes"))));
    SiteCall call;
    set_attributes(*call.request.mutable_put()->mutable_attributes(), attributes);
    call.parts = std::move(data.parts);
    call.owner = std::move(data.owner);
    call.changes = true;
    start<void>("put", name, options, std::move(call), std::move(callback),
                [](SiteAnswer&) -> result<void> { return success(); });
  }

  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> callback) override {
    if (ranges.size() > kSegmentsMax)
      return callback(failure(in("read", name, Error(Errc::invalid, "more than 32768 ranges"))));
    SiteCall call;
    auto& request = *call.request.mutable_read();
    request.set_attributes(want_attributes);
    for (const auto& range : ranges) {
      auto& field = *request.add_ranges();
      field.set_offset(range.offset);
      field.set_length(range.length);
      call.answer_max.push_back(std::min(range.length, kObjectBytesMax));
    }
    start<ReadReply>("read", name, options, std::move(call), std::move(callback),
                     [n = ranges.size()](SiteAnswer& answer) -> result<ReadReply> {
                       if (answer.segments.size() != n) return failure(SiteClient::strange());
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
    SiteCall call;
    set_derivation(*call.request.mutable_derive(), *kept, call.parts);
    call.owner = kept;
    call.changes = true;
    uint64_t sent = 0;
    for (const auto& part : call.parts) sent += part.size();
    if (sent > kSegmentBytesMax)
      return callback(failure(in("derive", name, Error(Errc::invalid, "more than 64 MiB to XOR"))));
    start<DeriveReply>("derive", name, options, std::move(call), std::move(callback),
                       [sent](SiteAnswer&) -> result<DeriveReply> { return DeriveReply{sent}; });
  }

  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> callback) override {
    if (const char* fault = fault_of(combination))
      return callback(failure(in("combine", name, Error(Errc::invalid, fault))));
    SiteCall call;
    set_combination(*call.request.mutable_combine(), combination);
    const size_t outputs = combination.coefficients.size();
    const uint64_t length = combination.ranges[0].length;
    call.answer_max.assign(outputs, length);
    start<CombineReply>("combine", name, options, std::move(call), std::move(callback),
                        [outputs, length](SiteAnswer& answer) -> result<CombineReply> {
                          if (answer.segments.size() != outputs)
                            return failure(SiteClient::strange());
                          for (const auto& segment : answer.segments)
                            if (segment.size() != length) return failure(SiteClient::strange());
                          return CombineReply{std::move(answer.segments), outputs * length, true};
                        });
  }

  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    SiteCall call;
    set_challenge(*call.request.mutable_prove(), challenge);
    start<AuditProof>(
        "prove", name, options, std::move(call), std::move(callback),
        [](SiteAnswer& answer) -> result<AuditProof> {
          const auto& reply = answer.head.reply();
          AuditProof proof;
          if (reply.mu().size() != kAuditBlockBytes || reply.tag().size() != proof.tag.size()) {
            return failure(SiteClient::strange());
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
    SiteCall call;
    (void)call.request.mutable_remove();
    call.changes = true;
    start<void>("remove", name, options, std::move(call), std::move(callback),
                [](SiteAnswer&) -> result<void> { return success(); });
  }

  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    if (from.size() > kHeadBytesMax / 2)
      return callback(failure(Errc::invalid, "not a continuation of a listing"));
    SiteCall call;
    call.request.mutable_list()->set_from(from);
    call.request.mutable_list()->set_count_max(count_max);
    start<ListReply>("list", "", options, std::move(call), std::move(callback),
                     [count_max](SiteAnswer& answer) -> result<ListReply> {
                       auto& reply = *answer.head.mutable_reply();
                       if (static_cast<size_t>(reply.names_size()) > count_max)
                         return failure(SiteClient::strange());
                       ListReply out;
                       for (auto& name : *reply.mutable_names()) {
                         if (!valid_object_name(name)) return failure(SiteClient::strange());
                         out.names.push_back(std::move(name));
                       }
                       out.next = reply.next();
                       return out;
                     });
  }

  void check(OpOptions options, Callback<void> callback) override {
    SiteCall call;
    (void)call.request.mutable_check();
    start<void>("check", "", options, std::move(call), std::move(callback),
                [](SiteAnswer&) -> result<void> { return success(); });
  }

  void capacity(OpOptions options, Callback<Capacity> callback) override {
    SiteCall call;
    (void)call.request.mutable_capacity();
    start<Capacity>("capacity", "", options, std::move(call), std::move(callback),
                    [](SiteAnswer& answer) -> result<Capacity> {
                      const auto& reply = answer.head.reply();
                      Capacity out;
                      out.bytes_total = reply.bytes_total();
                      out.bytes_free = std::min(reply.bytes_free(), reply.bytes_total());
                      out.raw_bytes_per_byte = std::clamp(reply.raw_bytes_per_byte(), 1.0, 1000.0);
                      return out;
                    });
  }

  std::string location(const std::string& name) const override {
    return client_.address() + "/" + name;
  }

 private:
  Error in(const char* op, const std::string& name, const Error& error) const {
    return error.in(std::string(op) + " " + (name.empty() ? client_.address() : location(name)));
  }

  // Queues the call; `convert` makes the answer of the reply.
  template <class T, class Convert>
  void start(const char* op, const std::string& name, const OpOptions& options, SiteCall call,
             Callback<T> callback, Convert convert) {
    const bool of_object =
        !call.request.has_list() && !call.request.has_check() && !call.request.has_capacity();
    if (of_object && !storable_object_name(name))
      return callback(failure(Errc::invalid, "not an object name: " + name.substr(0, 200)));
    call.request.set_name(name);
    call.request.set_purpose(static_cast<uint32_t>(options.purpose));
    call.deadline = options.deadline;
    call.bytes = answer_bytes_max(call.request);
    for (const auto& part : call.parts) call.bytes += part.size();
    call.done = [this, op, name, callback = std::move(callback),
                 convert = std::move(convert)](result<SiteAnswer> answer) {
      const auto refused = [&](const Error& error) {
        // Of a site that is away there is nothing to say about the object.
        callback(failure(error.is(Errc::away) ? error.in(client_.address()) : in(op, name, error)));
      };
      if (!answer) return refused(answer.error());
      if (auto good = reply_error(answer.value().head.reply()); !good) return refused(good.error());
      auto converted = convert(answer.value());
      if (!converted) return refused(converted.error());
      callback(std::move(converted));
    };
    client_.start(std::make_unique<SiteCall>(std::move(call)));
  }

  SiteClient client_;
};

}  // namespace

std::unique_ptr<ObjectStore> make_remote_store(RemoteStoreOptions options) {
  return std::make_unique<RemoteStore>(std::move(options));
}

}  // namespace datacloud
