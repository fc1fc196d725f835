// The steps: lay out the columns, encode, choose the sites, put.
#include "daemon/fold/new_stripe.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/crypto/sealed_block.h"
#include "common/stripe/placement.h"
#include "common/stripe/stripe_layout.h"
#include "common/stripe/write_quorum.h"
#include "daemon/jobs/shard_io.h"

namespace datacloud {
namespace {

constexpr uint32_t kSpreadBytesMin = 64u << 10;  // less than this is put into one column

// Allows for the sealing, so that incompressible data fills a stripe as it did when it was
// written.
uint64_t unsealed(uint32_t length) {
  return length - std::min<uint64_t>(length, kSealedOverheadBytes);
}

class NewStripeJob {
 public:
  NewStripeJob(BackgroundContext& context, BackgroundIds& ids, const ErasureCode& code,
               const StripeKind& kind, std::string& obstacle)
      : context_(context), ids_(ids), code_(code), kind_(kind), obstacle_(obstacle) {}

  result<std::optional<NewStripe>> make(const std::vector<ByteView>& blocks) {
    std::vector<uint32_t> lengths;
    for (const ByteView& block : blocks) lengths.push_back(static_cast<uint32_t>(block.size()));
    TRY(const auto layout, lay_out_stripe(lengths, code_.k(), code_.packets(),
                                          std::min(kSpreadBytesMin, kind_.shard_bytes)));
    auto columns = encoded(layout, blocks);
    NewStripe made;
    TRY(const auto shards, place(layout, columns, made.record));
    if (!shards) return std::optional<NewStripe>();
    const ShardsPut put = put_shards(context_, made.record.id(), *shards, Purpose::fold);
    if (!put.failed.empty()) {
      obstacle_ = put.reasons;
      TRY(abandon_shards(context_, made.record.id(), *shards));
      return std::optional<NewStripe>();
    }
    for (const auto& shard : *shards) made.bytes_written += shard.bytes->size();
    return std::optional(std::move(made));
  }

 private:
  std::vector<Bytes> encoded(const StripeLayout& layout, const std::vector<ByteView>& blocks) {
    const auto k = static_cast<size_t>(code_.k()), n = static_cast<size_t>(code_.n());
    std::vector<Bytes> columns(n, Bytes(layout.parity_length));
    for (size_t i = 0; i < blocks.size(); ++i) {
      std::copy(blocks[i].begin(), blocks[i].end(),
                columns[layout.slots[i].column].begin() + layout.slots[i].offset);
    }
    const std::vector<ByteView> data(columns.begin(), columns.begin() + static_cast<long>(k));
    const std::vector<MutableByteView> parity(columns.begin() + static_cast<long>(k),
                                              columns.end());
    code_.encode(data, parity);
    for (size_t c = 0; c < k; ++c) columns[c].resize(layout.data_lengths[c]);
    return columns;
  }

  // Fills in the record; nullopt when too few sites take shards.
  result<std::optional<std::vector<NewShard>>> place(const StripeLayout& layout,
                                                     std::vector<Bytes>& columns,
                                                     pb::Stripe& stripe) {
    TRY(const StripeId id, ids_.take(IdKind::stripe, 1));
    TRY(const auto duties, context_.threads.on_loop<SiteDuties>(
                               [&] { return result<SiteDuties>(context_.duties()); }));
    std::vector<PlacementSite> sites;
    for (Site* site : context_.sites.all()) {
      sites.push_back({site->id(), site->up() && duty_of(duties, site->id()) == pb::SITE_ACTIVE});
    }
    ColumnSet stored = 0;
    for (size_t c = 0; c < columns.size(); ++c) stored |= ColumnSet{!columns[c].empty()} << c;
    TRY(const auto placement, place_columns(code_, sites, id, stored, kind_.home_site));
    TRY(const InstanceId instance,
        ids_.take(IdKind::instance, static_cast<uint32_t>(columns.size())));
    std::vector<NewShard> shards;
    ShardsHeld held;
    stripe.set_id(id);
    stripe.set_code(code_.name());
    stripe.set_parity_bytes(layout.parity_length);
    stripe.set_shard_bytes(recorded_shard_bytes(kind_.shard_bytes));
    stripe.set_home_site(kind_.home_site);
    for (const Slot& slot : layout.slots) {
      stripe.add_slot_column(slot.column);
      stripe.add_slot_offset(slot.offset);
      stripe.add_slot_length(slot.length);
    }
    for (size_t c = 0; c < columns.size(); ++c) {
      auto& shard = *stripe.add_shards();
      shard.set_home_site(placement.home_of_column[c]);
      shard.set_bytes(static_cast<uint32_t>(columns[c].size()));
      if (columns[c].empty()) {
        shard.set_state(pb::SHARD_EMPTY);
        shard.set_site(placement.home_of_column[c]);
        held.site_of_column.push_back(0);
        held.empty |= ColumnSet{1} << c;
        continue;
      }
      shard.set_site(placement.site_of_column[c]);
      shard.set_instance(instance + c);
      held.site_of_column.push_back(shard.site());
      shards.push_back({static_cast<int>(c), shard.site(), instance + c,
                        std::make_shared<const Bytes>(std::move(columns[c]))});
    }
    const bool weak = code_.m() > 0 && !survives_any_site(code_, held);
    stripe.set_weak(weak);
    if (weak && sites.size() >= static_cast<size_t>(sites_for_one_loss(code_))) {
      obstacle_ = "too few sites take shards: " + context_.sites.describe_away();
      return std::optional<std::vector<NewShard>>();
    }
    return std::optional(std::move(shards));
  }

  BackgroundContext& context_;
  BackgroundIds& ids_;
  const ErasureCode& code_;
  const StripeKind& kind_;
  std::string& obstacle_;
};

}  // namespace

StripeKind kind_of(const pb::Stripe& stripe) {
  return {stripe.code(), shard_bytes_of(stripe.shard_bytes()), stripe.home_site()};
}

StripeKind kind_of(const pb::Policy& policy) {
  return {policy.code(), shard_bytes_of(policy.shard_bytes()), policy.home_site()};
}

size_t blocks_for_stripe(const ErasureCode& code, const StripeKind& kind, size_t first,
                         size_t count, const std::function<uint32_t(size_t)>& sealed_bytes) {
  ColumnFill fill(code.k(), kind.shard_bytes);
  size_t blocks = 0;
  while (first + blocks < count && blocks < kStripeSlotsMax &&
         fill.add(unsealed(sealed_bytes(first + blocks)))) {
    ++blocks;
  }
  return blocks;
}

result<std::optional<NewStripe>> make_stripe(BackgroundContext& context, BackgroundIds& ids,
                                             const ErasureCode& code, const StripeKind& kind,
                                             const std::vector<ByteView>& blocks,
                                             std::string& obstacle) {
  return NewStripeJob(context, ids, code, kind, obstacle).make(blocks);
}

}  // namespace datacloud
