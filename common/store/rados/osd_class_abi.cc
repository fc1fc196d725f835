// Fixed little-endian structures of the OSD class, written and carefully read.
#include "common/store/rados/osd_class_abi.h"

#include <algorithm>

namespace datacloud {
namespace {

constexpr size_t kSoftwareBytesMax = 64;

template <class T>
void put(Bytes& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

void put(Bytes& out, ByteView bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

// Takes values from the front; after one that is not there everything is.
class Reader {
 public:
  explicit Reader(ByteView in) : in_(in) {}

  template <class T>
  T number() {
    const ByteView bytes = take(sizeof(T));
    T value = 0;
    for (size_t i = 0; i < bytes.size(); ++i) value |= static_cast<T>(T{bytes[i]} << (8 * i));
    return value;
  }
  ByteView take(uint64_t n) {
    if (n > in_.size()) {
      good_ = false;
      in_ = {};
      return {};
    }
    const ByteView bytes = in_.first(n);
    in_ = in_.subspan(n);
    return bytes;
  }
  bool abi() { return number<uint32_t>() == kClassAbi && good_; }
  size_t left() const { return in_.size(); }
  bool good() const { return good_; }
  bool done() const { return good_ && in_.empty(); }

 private:
  ByteView in_;
  bool good_ = true;
};

void put_ranges(Bytes& out, const std::vector<XorRange>& ranges) {
  for (const auto& range : ranges) {
    put(out, range.offset);
    put(out, static_cast<uint32_t>(range.bytes.size()));
    put(out, ByteView(range.bytes));
  }
}

void take_ranges(Reader& in, uint32_t count, std::vector<XorRange>& ranges) {
  for (uint32_t i = 0; i < count && in.good(); ++i) {
    const auto offset = in.number<uint64_t>();
    const auto length = in.number<uint32_t>();
    ranges.push_back({offset, to_bytes(in.take(length))});
  }
}

}  // namespace

Bytes encode_class_version(const ClassVersion& version) {
  Bytes out;
  put(out, version.abi);
  const auto software = version.software.substr(0, kSoftwareBytesMax);
  put(out, static_cast<uint32_t>(software.size()));
  put(out, as_bytes(software));
  return out;
}

bool decode_class_version(ByteView bytes, ClassVersion& version) {
  Reader in(bytes);
  version.abi = in.number<uint32_t>();
  const auto length = in.number<uint32_t>();
  if (length > kSoftwareBytesMax) return false;
  version.software = std::string(as_text(in.take(length)));
  return in.good();  // a later abi may say more
}

Bytes encode_xor_request(const Derivation& d) {
  Bytes out;
  size_t bytes = 36;
  for (const auto* ranges : {&d.data, &d.tags}) {
    for (const auto& range : *ranges) bytes += 12 + range.bytes.size();
  }
  out.reserve(bytes);
  put(out, kClassAbi);
  put(out, static_cast<uint32_t>(d.data.size()));
  put(out, static_cast<uint32_t>(d.tags.size()));
  put(out, d.source_instance);
  put(out, d.instance);
  put(out, d.size);
  put_ranges(out, d.data);
  put_ranges(out, d.tags);
  return out;
}

bool decode_xor_request(ByteView bytes, Derivation& d) {
  Reader in(bytes);
  if (!in.abi()) return false;
  const auto data = in.number<uint32_t>();
  const auto tags = in.number<uint32_t>();
  d = {};
  d.source_instance = in.number<uint64_t>();
  d.instance = in.number<uint64_t>();
  d.size = in.number<uint64_t>();
  if (!in.good() || data > kXorRangesMax || tags > kXorRangesMax) return false;
  take_ranges(in, data, d.data);
  take_ranges(in, tags, d.tags);
  return in.done() && fault_of(d) == nullptr;
}

Bytes encode_prove_request(const AuditChallenge& challenge) {
  Bytes out;
  put(out, kClassAbi);
  put(out, uint32_t{0});
  put(out, ByteView(challenge.seed));
  put(out, challenge.blocks_total);
  put(out, challenge.samples);
  return out;
}

bool decode_prove_request(ByteView bytes, AuditChallenge& challenge) {
  Reader in(bytes);
  if (!in.abi() || in.number<uint32_t>() != 0) return false;
  const ByteView seed = in.take(challenge.seed.size());
  if (!in.good()) return false;
  std::copy(seed.begin(), seed.end(), challenge.seed.begin());
  challenge.blocks_total = in.number<uint64_t>();
  challenge.samples = in.number<uint64_t>();
  return in.done() && fault_of(challenge) == nullptr;
}

Bytes encode_prove_reply(const AuditProof& proof) {
  Bytes out;
  const uint64_t elements = proof.object_size / kFieldBytes + 1;  // at least those not zero
  const size_t mu_bytes = std::min<uint64_t>(elements * kFieldBytes, proof.mu.size());
  put(out, kClassAbi);
  put(out, static_cast<uint32_t>(mu_bytes));
  put(out, proof.object_size);
  put(out, proof.instance);
  put(out, ByteView(proof.tag));
  put(out, ByteView(proof.mu).first(mu_bytes));
  return out;
}

bool decode_prove_reply(ByteView bytes, AuditProof& proof) {
  Reader in(bytes);
  if (!in.abi()) return false;
  const auto mu_bytes = in.number<uint32_t>();
  proof.object_size = in.number<uint64_t>();
  proof.instance = in.number<uint64_t>();
  const ByteView tag = in.take(proof.tag.size());
  if (!in.good() || mu_bytes > kAuditBlockBytes) return false;
  std::copy(tag.begin(), tag.end(), proof.tag.begin());
  proof.mu = to_bytes(in.take(mu_bytes));
  if (!in.done()) return false;
  proof.mu.resize(kAuditBlockBytes);
  proof.bytes_transferred = bytes.size();
  proof.at_site = true;
  return true;
}

Bytes encode_combine_request(const Combination& c) {
  Bytes out;
  put(out, kClassAbi);
  put(out, static_cast<uint32_t>(c.ranges.size()));
  put(out, static_cast<uint32_t>(c.coefficients.size()));
  put(out, c.ranges.empty() ? uint64_t{0} : c.ranges[0].length);
  for (const auto& range : c.ranges) put(out, range.offset);
  for (const auto& row : c.coefficients) put(out, ByteView(row));
  return out;
}

bool decode_combine_request(ByteView bytes, Combination& c) {
  Reader in(bytes);
  if (!in.abi()) return false;
  const auto ranges = in.number<uint32_t>();
  const auto outputs = in.number<uint32_t>();
  const auto length = in.number<uint64_t>();
  if (!in.good() || ranges > kCombinationRangesMax || outputs > kCombinationOutputsMax) {
    return false;
  }
  if (in.left() != uint64_t{ranges} * 8 + uint64_t{ranges} * outputs) return false;
  c = {};
  for (uint32_t i = 0; i < ranges; ++i) c.ranges.push_back({in.number<uint64_t>(), length});
  for (uint32_t j = 0; j < outputs; ++j) c.coefficients.push_back(to_bytes(in.take(ranges)));
  return in.done() && fault_of(c) == nullptr;
}

Bytes encode_combine_reply(const std::vector<Bytes>& outputs) {
  Bytes out;
  const uint64_t length = outputs.empty() ? 0 : outputs[0].size();
  out.reserve(16 + outputs.size() * length);
  put(out, kClassAbi);
  put(out, static_cast<uint32_t>(outputs.size()));
  put(out, length);
  for (const auto& output : outputs) put(out, ByteView(output));
  return out;
}

bool decode_combine_reply(ByteView bytes, const Combination& request, CombineReply& reply) {
  Reader in(bytes);
  if (!in.abi() || request.ranges.empty()) return false;
  const auto outputs = in.number<uint32_t>();
  const auto length = in.number<uint64_t>();
  if (outputs != request.coefficients.size() || length != request.ranges[0].length) return false;
  // No overflow: the request has been checked.
  if (!in.good() || in.left() != uint64_t{outputs} * length) return false;
  reply = {};
  for (uint32_t j = 0; j < outputs; ++j) reply.outputs.push_back(to_bytes(in.take(length)));
  reply.bytes_transferred = bytes.size();
  reply.at_site = true;
  return in.done();
}

}  // namespace datacloud
