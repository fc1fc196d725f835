// See site_messages.h.
#include "common/store/remote/site_messages.h"

#include <algorithm>
#include <cerrno>

namespace datacloud {
namespace {

constexpr int kErrcLast = static_cast<int>(Errc::unsupported);
constexpr int kErrnoMax = 4095;
constexpr size_t kErrorTextBytesMax = 4096;

std::string text_of(ByteView bytes) { return std::string(as_text(bytes)); }

std::vector<ByteRange> ranges_of(const google::protobuf::RepeatedPtrField<pb::StoreRange>& ranges) {
  std::vector<ByteRange> out;
  for (const auto& range : ranges) out.push_back({range.offset(), range.length()});
  return out;
}

}  // namespace

void set_error(pb::StoreReply& reply, const Error& error) {
  const auto& code = error.code();
  if (code.category() == error_category())
    reply.set_error(code.value() > 0 ? -code.value() : -static_cast<int>(Errc::io));
  else
    reply.set_error(error.errno_value() > 0 ? error.errno_value() : EIO);
  reply.set_error_text(error.text().substr(0, kErrorTextBytesMax));
}

result<void> reply_error(const pb::StoreReply& reply) {
  const int value = reply.error();
  if (value == 0) return success();
  std::string text = reply.error_text().substr(0, kErrorTextBytesMax);
  if (value > 0 && value <= kErrnoMax) return failure(Error::posix(value, std::move(text)));
  if (value > 0 || value < -kErrcLast) return failure(Errc::io, std::move(text));
  return failure(static_cast<Errc>(-value), std::move(text));
}

void set_attributes(AttributeFields& fields, const Attributes& attributes) {
  for (const auto& [name, value] : attributes) {
    auto& field = *fields.Add();
    field.set_name(name);
    field.set_value(value);
  }
}

result<Attributes> get_attributes(const AttributeFields& fields) {
  Attributes out;
  size_t bytes = 0;
  for (const auto& field : fields) {
    bytes += field.name().size() + field.value().size();
    if (bytes > kAttributesBytesMax || !out.emplace(field.name(), field.value()).second)
      return failure(Errc::corrupt, "attributes are too long, or one is there twice");
  }
  return out;
}

void set_derivation(pb::StoreDerive& out, const Derivation& derivation,
                    std::vector<ByteView>& parts) {
  out.set_source(derivation.source);
  out.set_source_instance(derivation.source_instance);
  out.set_instance(derivation.instance);
  out.set_size(derivation.size);
  for (const auto& range : derivation.data) {
    out.add_data_offsets(range.offset);
    parts.emplace_back(range.bytes);
  }
  for (const auto& range : derivation.tags) {
    out.add_tag_offsets(range.offset);
    parts.emplace_back(range.bytes);
  }
}

result<Derivation> get_derivation(const pb::StoreDerive& in, std::vector<Bytes> segments) {
  const auto data = static_cast<size_t>(in.data_offsets_size());
  const auto tags = static_cast<size_t>(in.tag_offsets_size());
  if (data > kXorRangesMax || tags > kXorRangesMax || segments.size() != data + tags)
    return failure(Errc::invalid, "a derivation needs one segment for each range");
  Derivation out{in.source(), in.source_instance(), in.instance(), in.size(), {}, {}};
  for (size_t i = 0; i < data; ++i)
    out.data.push_back({in.data_offsets(static_cast<int>(i)), std::move(segments[i])});
  for (size_t i = 0; i < tags; ++i)
    out.tags.push_back({in.tag_offsets(static_cast<int>(i)), std::move(segments[data + i])});
  return out;
}

void set_combination(pb::StoreCombine& out, const Combination& combination) {
  for (const auto& range : combination.ranges) {
    auto& field = *out.add_ranges();
    field.set_offset(range.offset);
    field.set_length(range.length);
  }
  for (const auto& row : combination.coefficients) out.add_coefficients(text_of(row));
}

Combination get_combination(const pb::StoreCombine& in) {
  Combination out{ranges_of(in.ranges()), {}};
  for (const auto& row : in.coefficients()) out.coefficients.push_back(to_bytes(as_bytes(row)));
  return out;
}

void set_challenge(pb::StoreProve& out, const AuditChallenge& challenge) {
  out.set_seed(text_of(challenge.seed));
  out.set_blocks_total(challenge.blocks_total);
  out.set_samples(challenge.samples);
}

result<AuditChallenge> get_challenge(const pb::StoreProve& in) {
  AuditChallenge out;
  if (in.seed().size() != out.seed.size())
    return failure(Errc::invalid, "a challenge needs a seed of 32 bytes");
  std::copy(in.seed().begin(), in.seed().end(), out.seed.begin());
  out.blocks_total = in.blocks_total();
  out.samples = in.samples();
  return out;
}

uint64_t answer_bytes_max(const pb::StoreRequest& request) {
  uint64_t bytes = 0;
  const auto add = [&](uint64_t more) {
    bytes = std::min(kObjectBytesMax, bytes + std::min(kObjectBytesMax, more));
  };
  if (request.has_read())
    for (const auto& range : request.read().ranges()) add(range.length());
  if (request.has_combine() && request.combine().ranges_size() > 0)
    for (int i = 0; i < request.combine().coefficients_size(); ++i)
      add(request.combine().ranges(0).length());
  if (request.log().call() == pb::LOG_READ)  // one entry at least
    add(std::clamp(request.log().bytes_max(), kSiteLogEntryBytesMax, kSiteLogReadBytesMax));
  return bytes;
}

}  // namespace datacloud
