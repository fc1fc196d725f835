// A service of a cloud with `inline`, one mount, and a file that it holds for writing; commits with
// blocks and patches for the records.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/cloud_features.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {

class ServiceInlineTest : public ServiceTest {
 protected:
  using Outcome = pb::UpdateOutcome;

  void SetUp() override {
    ServiceTest::SetUp();
    config_.inline_bytes_max = room_;
    Transaction txn = store_->begin();
    ASSERT_TRUE(enable_feature(txn, Feature::inline_data, store_->sequence() + 1));
    ASSERT_TRUE(store_->commit(std::move(txn)));
    restart();
    a_ = mount(1, {std::string(describe(Feature::inline_data).name)});
    file_ = create(a_, "file");
    versions_ = grant(a_, IdKind::version, 1000);
  }

  static std::string sealed(char c, size_t bytes = 100) { return std::string(bytes, c); }
  pb::Inode record() { return get_inode(store_->begin(), file_).value(); }
  std::vector<pb::Run> map_of() { return runs_of(store_->begin(), file_, 0, 1u << 20).value(); }
  // A commit with one block or patch.
  pb::Request piece_request(uint64_t block, bool patch, const std::string& bytes) {
    pb::Request request;
    auto* update = request.mutable_commit()->add_updates();
    update->set_ino(file_);
    update->set_grow_to((block + 1) * 4096);
    update->set_change_id(versions_ + 1'000'000);
    update->add_follows(record().change_id());
    add_piece(request, block, patch, bytes);
    return request;
  }
  void add_piece(pb::Request& request, uint64_t block, bool patch, const std::string& bytes) {
    auto& commit = *request.mutable_commit();
    auto* run = commit.mutable_updates(0)->add_runs();
    run->set_first_block(block);
    run->set_count(1);
    run->set_version(versions_++);
    patch ? run->set_patches(1) : run->set_inline_(true);
    auto* piece = commit.add_pieces();
    piece->set_ino(file_);
    piece->set_block(block);
    piece->set_version(run->version());
    piece->set_patch(patch);
    piece->set_sealed(bytes);
  }
  std::vector<Outcome::Outcome> put(uint64_t block, bool patch, const std::string& bytes) {
    const auto reply = call(a_, piece_request(block, patch, bytes));
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return outcomes(reply);
  }
  void expect_invalid(const std::function<void(pb::CommitRequest&)>& spoil,
                      const std::string& why) {
    auto request = piece_request(0, true, sealed('x'));
    spoil(*request.mutable_commit());
    const auto before = record();
    const auto reply = call(a_, request);
    EXPECT_EQ(reply.error(), -static_cast<int>(Errc::invalid)) << reply.error_text();
    EXPECT_THAT(reply.error_text(), testing::HasSubstr(why));
    EXPECT_EQ(record().DebugString(), before.DebugString()) << "nothing is applied";
  }
  pb::Reply map_request(uint64_t first, uint32_t blocks) {
    pb::Request request;
    request.mutable_map()->set_ino(file_);
    request.mutable_map()->set_first_block(first);
    request.mutable_map()->set_blocks(blocks);
    return call(a_, request);
  }

  // Of all `V` and `W`.
  uint64_t bytes_in_records() {
    uint64_t bytes = 0;
    const std::string end = key::after_prefix(key::patch(0, 0, 0).substr(0, 1));
    EXPECT_TRUE(store_->begin().scan(key::inline_block(0, 0), end, [&](auto, auto value) {
      bytes += value.size();
      return true;
    }));
    return bytes;
  }
  size_t inline_blocks_now() {
    size_t count = 0;
    for (const auto& run : map_of()) count += run.inline_() ? 1 : 0;
    return count;
  }

  uint64_t room_ = 64 << 10;  // inline_bytes_max
  Client a_;
  InodeId file_ = 0;
  uint64_t versions_ = 0;
};

}  // namespace datacloud
