// Audit bundles: what is read is in order and within bounds, and its stripes can be used without
// further checks.
#include <sstream>

#include "common/audit/audit_bundle.h"
#include "common/codes/erasure_code.h"
#include "common/store/object_store.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace audit_bundle_input {

constexpr std::string_view kMagic = "datacloud audit bundle 1\n";

void run(ByteView input) {
  silence_protobuf();
  std::istringstream in{std::string(as_text(input))};
  auto reader = AuditBundleReader::open(in);
  if (!reader) return;
  StripeId above = 0;
  while (true) {
    const auto change = reader.value().next();
    if (!change || !change.value()) break;
    const StripeId id = change.value()->stripe();
    require(id >= above, "stripes ascend");
    above = id + 1;
    const auto stripe = audited_stripe(id, change.value()->record());
    if (!stripe) continue;
    const auto& record = stripe.value().stripe;
    require(make_erasure_code(record.code()).value()->n() == record.shards_size(), "n shards");
    require(stripe.value().objects.size() == static_cast<size_t>(record.shards_size()), "n names");
    for (int c = 0; c < record.shards_size(); ++c) {
      const auto& shard = record.shards(c);
      if (shard.state() != pb::SHARD_PRESENT) continue;
      require(valid_object_name(stripe.value().objects[static_cast<size_t>(c)]), "a name");
      require(shard.bytes() <= record.parity_bytes(), "no shard is longer than the parity");
    }
  }
}

Bytes framed(const std::vector<pb::AuditBundleFrame>& frames) {
  std::string text(kMagic);
  for (const auto& frame : frames) {
    const std::string bytes = frame.SerializeAsString();
    for (int i = 0; i < 4; ++i) text.push_back(static_cast<char>(bytes.size() >> (8 * i)));
    text += bytes;
  }
  return copy_of(text);
}

std::vector<Bytes> seeds() {
  pb::AuditBundleHeader header;
  header.set_format(kAuditBundleFormat);
  header.set_cloud_uuid("uuid");
  header.add_sites()->set_audit_key(std::string(32, 'k'));
  pb::Stripe stripe;
  stripe.set_id(12);
  stripe.set_code("rs-2-1");
  stripe.set_parity_bytes(200);
  for (uint32_t c = 0; c < 3; ++c) {
    auto* shard = stripe.add_shards();
    shard->set_site(c + 1);
    shard->set_instance(100 + c);
    shard->set_bytes(200);
    auto* run = shard->add_versions();
    run->set_version(99);
  }
  std::vector<pb::AuditBundleFrame> frames(3);
  frames[0].set_header(header.SerializeAsString());
  auto* change = frames[1].mutable_page()->add_changes();
  change->set_stripe(12);
  change->set_record(audit_record(stripe, ShardNamer(Bytes(16, 1))));
  frames[1].mutable_page()->add_changes()->set_stripe(13);
  *frames[2].mutable_end() = seal_audit_bundle(SigningKey(SecretKey(Bytes(32, 1))),
                                               frames[0].header(), AuditStateDigest());
  return {framed(frames)};
}

}  // namespace audit_bundle_input

FuzzTarget audit_bundle_target() {
  return {"audit_bundle", audit_bundle_input::run, audit_bundle_input::seeds};
}

}  // namespace datacloud::fuzz
