// Groups of really coded and tagged stripes in a cloud under a test's hand, and their repair.
#pragma once

#include <random>

#include "common/audit/shard_tags.h"
#include "common/plan/repair_planner.h"
#include "common/store/store_decorators.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/stripe_groups.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {

class GroupTest : public ServiceTest {
 protected:
  // Member stripes and their row, the last one; what every cell holds.
  struct Group {
    std::vector<pb::Stripe> stripes;
    std::vector<std::vector<Bytes>> cells;
    int t() const { return static_cast<int>(stripes.size()) - 1; }
  };
  struct Shape {
    std::string code = "rs-3-2";
    int members = 3;
    uint32_t bytes = 8192;  // of a shard
    bool uneven = false;    // members and columns differ in length, some columns are empty
    bool has_row = true;
    uint64_t rotation = 0;
    uint32_t shard_bytes = 0;  // as recorded
  };

  void SetUp() override {
    config_.gc_interval_ms = 100;
    ServiceTest::SetUp();
    tags_ = ShardTags(ShardTags::derive_keys(service_key_, cloud_));
    const char* given = std::getenv("DATACLOUD_SEED");
    const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("DATACLOUD_SEED=%llu\n", static_cast<unsigned long long>(seed));
    random_.seed(seed);
  }

  static ShardName name_of(const pb::Stripe& stripe, int column) {
    return {stripe.id(), static_cast<uint8_t>(column), stripe.shards(column).instance()};
  }
  static SiteId site_of(const Shape& shape, int column) {
    return static_cast<SiteId>((static_cast<uint64_t>(column) + shape.rotation) % kSites) + 1;
  }

  // Puts every shard and commits members and row in one request.
  Group make_group(Client& client, const Shape& shape) {
    const auto code = make_erasure_code(shape.code).value();
    Group group;
    for (int r = 0; r < shape.members; ++r) {
      group.cells.push_back(member_cells(*code, shape, shape.bytes >> (shape.uneven ? r % 2 : 0)));
    }
    for (int r = 0; r < shape.members; ++r) {
      group.stripes.push_back(put_cells(client, *code, shape, group.cells[static_cast<size_t>(r)]));
      add_slots(group.stripes.back(), code->k());
    }
    if (shape.has_row) {
      std::vector<Bytes> row(static_cast<size_t>(code->n()));
      for (const auto& member : group.cells) {
        for (size_t c = 0; c < row.size(); ++c) {
          if (member[c].size() > row[c].size()) row[c].resize(member[c].size());
          for (size_t i = 0; i < member[c].size(); ++i) row[c][i] ^= member[c][i];
        }
      }
      group.cells.push_back(row);
      group.stripes.push_back(put_cells(client, *code, shape, row));
      for (int r = 0; r < shape.members; ++r) {
        group.stripes.back().add_members(group.stripes[static_cast<size_t>(r)].id());
      }
    }
    commit(client, group.stripes);
    return group;
  }

  void lose(const Group& group, const std::vector<Cell>& cells) {
    Transaction txn = store_->begin();
    for (const Cell& cell : cells) {
      const auto& stripe = record(group.stripes[static_cast<size_t>(cell.row)].id());
      const auto& shard = stripe.shards(cell.column);
      if (shard.state() != pb::SHARD_PRESENT) continue;
      remove_object(shard.site(), name_of(stripe, cell.column));
      EXPECT_TRUE(record_damage(
          txn, damage_of(name_of(stripe, cell.column), shard.site(), "lost by the test")));
    }
    EXPECT_TRUE(store_->commit(std::move(txn)));
  }
  // Other bytes under the tags of the truth.
  void corrupt(const Group& group, Cell cell) {
    const auto stripe = record(group.stripes[static_cast<size_t>(cell.row)].id());
    const SiteId site = stripe.shards(cell.column).site();
    auto good = read_object(site, name_of(stripe, cell.column)).value();
    remove_object(site, name_of(stripe, cell.column));
    good.ranges[0][good.ranges[0].size() / 2] ^= 4;
    EXPECT_TRUE(wait_for<void>([&](Callback<void> done) {
      sites_->find(site)->store().put(object_name(name_of(stripe, cell.column)),
                                      Payload::from(good.ranges[0]), good.attributes, {}, done);
    }));
  }

  pb::RepairReply ask(Client& client, bool start, bool scrub = false) {
    pb::Request request;
    request.mutable_repair()->set_start(start);
    request.mutable_repair()->set_scrub(scrub);
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return reply.repair();
  }
  // Until nothing is left or what is left is put off for good. Of stripes of one group that cannot
  // be restored, one may find the other's lock every time: asked again for that only so often.
  pb::RepairReply repair_all(Client& client, bool scrub = false) {
    auto reply = ask(client, true, scrub);
    const auto end = monotonic_now() + seconds(60);
    int again = 20;
    while ((!reply.idle() || (held_by_others(reply) && again > 0)) && monotonic_now() < end) {
      if (reply.idle()) --again;
      run_for(milliseconds(1));
      reply = ask(client, reply.idle());
    }
    EXPECT_TRUE(reply.idle());
    return reply;
  }
  static bool held_by_others(const pb::RepairReply& reply) {
    return std::any_of(reply.obstacles().begin(), reply.obstacles().end(), [](const auto& text) {
      return text.find("other work holds it") != std::string::npos;
    });
  }

  // Every cell is present, tagged, and holds what it should.
  void expect_whole(const Group& group, const std::set<SiteId>& not_at = {}) {
    for (size_t r = 0; r < group.stripes.size(); ++r) {
      const auto stripe = record(group.stripes[r].id());
      for (int c = 0; c < stripe.shards_size(); ++c) {
        const auto& shard = stripe.shards(c);
        if (shard.state() == pb::SHARD_EMPTY) continue;
        EXPECT_EQ(shard.state(), pb::SHARD_PRESENT) << "row " << r << " column " << c;
        EXPECT_FALSE(not_at.contains(shard.site())) << "row " << r << " column " << c;
        const auto reply = read_object(shard.site(), name_of(stripe, c));
        ASSERT_TRUE(reply) << "row " << r << " column " << c << ": " << reply.error().message();
        EXPECT_TRUE(reply.value().ranges.at(0) == group.cells[r][static_cast<size_t>(c)])
            << "row " << r << " column " << c;
        EXPECT_TRUE(tags_.verify(stripe, c, reply.value().ranges.at(0), reply.value().attributes))
            << "row " << r << " column " << c;
      }
    }
  }

  pb::Stripe record(StripeId id) {
    const auto stripe = get_stripe(store_->begin(), id);
    EXPECT_TRUE(stripe && stripe.value()) << "stripe " << id;
    return stripe && stripe.value() ? *stripe.value() : pb::Stripe();
  }
  result<ReadReply> read_object(SiteId site, const ShardName& name) {
    return wait_for<ReadReply>([&](Callback<ReadReply> done) {
      sites_->find(site)->store().read(object_name(name), {{0, 4u << 20}}, true, {}, done);
    });
  }
  void remove_object(SiteId site, const ShardName& name) {
    const auto removed = wait_for<void>([&](Callback<void> done) {
      sites_->find(site)->store().remove(object_name(name), {}, done);
    });
    EXPECT_TRUE(removed) << removed.error().message();
  }

  ShardTags tags_;
  std::mt19937_64 random_;
  InodeId file_ = 0;
  uint64_t next_block_ = 0;

 private:
  std::vector<Bytes> member_cells(const ErasureCode& code, const Shape& shape, uint32_t length) {
    std::vector<Bytes> cells(static_cast<size_t>(code.n()), Bytes(length));
    std::vector<Bytes> padded(static_cast<size_t>(code.k()), Bytes(length));
    for (size_t c = 0; c < padded.size(); ++c) {
      uint32_t used = length;
      if (shape.uneven && c > 0) used = static_cast<uint32_t>(random_() % (length + 1));
      if (shape.uneven && c + 1 == padded.size() && random_() % 2) used = 0;
      cells[c].resize(used);
      for (auto& b : cells[c]) b = static_cast<uint8_t>(random_() >> 32);
      std::copy(cells[c].begin(), cells[c].end(), padded[c].begin());
    }
    std::vector<ByteView> data(padded.begin(), padded.end());
    std::vector<MutableByteView> parity(cells.begin() + code.k(), cells.end());
    code.encode(data, parity);
    return cells;
  }
  static void add_slots(pb::Stripe& stripe, int k) {
    for (int c = 0; c < k; ++c) {
      if (stripe.shards(c).bytes() == 0) continue;
      stripe.add_slot_column(static_cast<uint32_t>(c));
      stripe.add_slot_offset(0);
      stripe.add_slot_length(stripe.shards(c).bytes());
    }
  }
  pb::Stripe put_cells(Client& client, const ErasureCode& code, const Shape& shape,
                       const std::vector<Bytes>& cells) {
    pb::Stripe stripe;
    stripe.set_id(grant(client, IdKind::stripe, 1));
    stripe.set_code(code.name());
    stripe.set_parity_bytes(static_cast<uint32_t>(cells.back().size()));
    stripe.set_shard_bytes(shape.shard_bytes);
    const InstanceId first = grant(client, IdKind::instance, static_cast<uint32_t>(code.n()));
    for (int c = 0; c < code.n(); ++c) {
      const Bytes& bytes = cells[static_cast<size_t>(c)];
      auto* shard = stripe.add_shards();
      shard->set_site(site_of(shape, c));
      shard->set_home_site(site_of(shape, c));
      if (bytes.empty()) {
        shard->set_state(pb::SHARD_EMPTY);
        continue;
      }
      shard->set_bytes(static_cast<uint32_t>(bytes.size()));
      shard->set_instance(first + static_cast<uint64_t>(c));
      const ShardName name = name_of(stripe, c);
      EXPECT_TRUE(wait_for<void>([&](Callback<void> done) {
        sites_->find(shard->site())
            ->store()
            .put(object_name(name), Payload::from(bytes),
                 tags_.make(shard->site(), name, {ByteView(bytes)}), {}, done);
      }));
    }
    return stripe;
  }
  void commit(Client& client, const std::vector<pb::Stripe>& stripes) {
    if (file_ == 0) file_ = create(client, "file");
    EXPECT_EQ(call(client, lease_request(file_, pb::LEASE_WRITE, true)).error(), 0);
    pb::Request request;
    auto* out = request.mutable_commit();
    auto* update = out->add_updates();
    update->set_ino(file_);
    for (const auto& stripe : stripes) {
      *out->add_stripes() = stripe;
      const auto slots = static_cast<uint32_t>(stripe.slot_column_size());
      if (slots == 0) continue;
      auto* run = update->add_runs();
      run->set_first_block(next_block_);
      run->set_count(slots);
      run->set_stripe(stripe.id());
      run->set_version(grant(client, IdKind::version, slots));
      next_block_ += slots;
    }
    update->set_grow_to(next_block_ * 4096);
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
  }
};

}  // namespace datacloud
