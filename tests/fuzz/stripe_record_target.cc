// Stripe records as a mount sends them: what validate_stripe accepts can be used without checks.
#include "common/codes/erasure_code.h"
#include "common/proto/records.pb.h"
#include "daemon/records/block_map.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace stripe_record_input {

void run(ByteView input) {
  silence_protobuf();
  pb::Stripe stripe;
  if (!stripe.ParseFromArray(input.data(), static_cast<int>(input.size()))) return;
  if (!validate_stripe(stripe)) return;
  const auto code = make_erasure_code(stripe.code());
  require(code.has_value() && stripe.shards_size() == code.value()->n(),
          "n shards of a known code");
  require(stripe.slot_column_size() == stripe.slot_offset_size() &&
              stripe.slot_column_size() == stripe.slot_length_size(),
          "slot arrays of one length");
  for (int i = 0; i < stripe.slot_column_size(); ++i) {
    require(stripe.slot_column(i) < static_cast<uint32_t>(code.value()->k()), "a slot's column");
    const auto& shard = stripe.shards(static_cast<int>(stripe.slot_column(i)));
    require(uint64_t{stripe.slot_offset(i)} + stripe.slot_length(i) <= shard.bytes(),
            "a slot ends inside its shard");
  }
  require(stripe.id() != 0 && stripe.id() <= kStripeIdMax, "an id that can be named");
}

std::vector<Bytes> seeds() {
  pb::Stripe stripe;
  stripe.set_id(12);
  stripe.set_code("rs-3-2");
  stripe.set_parity_bytes(200);
  for (uint32_t c = 0; c < 5; ++c) {
    auto* shard = stripe.add_shards();
    shard->set_site(c + 1);
    shard->set_home_site(c + 1);
    shard->set_instance(100 + c);
    shard->set_bytes(200);
  }
  for (uint32_t slot = 0; slot < 6; ++slot) {
    stripe.add_slot_column(slot / 2);
    stripe.add_slot_offset(slot % 2 * 100);
    stripe.add_slot_length(100);
  }
  require(validate_stripe(stripe).has_value(), "the seed is valid");
  return {copy_of(stripe.SerializeAsString())};
}

}  // namespace stripe_record_input

FuzzTarget stripe_record_target() {
  return {"stripe_record", stripe_record_input::run, stripe_record_input::seeds};
}

}  // namespace datacloud::fuzz
