// The daemon dies after every single object operation of folds and of the deletions that follow. At
// each such instant a reader who knows only the records reads every block under every loss the code
// tolerates; after a restart the fold is done again, and nothing is left over at any site.
#include "tests/daemon/fold/fold_rig.h"

namespace datacloud {
namespace {

constexpr size_t kBlock = 4096;

class FoldCrashTest : public FoldRig {
 protected:
  void TearDown() override { remove_cloud(); }

  void fold_and_collect(const std::vector<StripeId>& bases) {
    for (const StripeId base : bases) {
      (void)fold_stripe(*context_, *ids_, base, {});  // fails when it dies
    }
    if (!crashed_) collect_garbage();
  }
  // One run that dies before operation `last` + 1; false when that many are not needed.
  bool dies_after(uint64_t last, const std::string& profile, size_t blocks,
                  const std::vector<uint64_t>& updates) {
    make_cloud(profile);
    const auto half = blocks / 2;
    const std::vector<StripeId> bases{write(random_blocks(0, half, kBlock)),
                                      write(random_blocks(half, blocks - half, kBlock))};
    for (const uint64_t block : updates) write({{block, random_bytes(kBlock)}});
    operations_ = 0;
    operations_max_ = last;
    fold_and_collect(bases);
    const bool died = crashed_;
    expect_readable();
    if (!HasFailure()) {
      restart();
      expect_readable();
      fold_and_collect(bases);
      EXPECT_EQ(all_stripes(), bases);
      expect_readable();
      expect_audits_clean();
      expect_no_orphans();
    }
    remove_cloud();
    return died;
  }
  void die_everywhere(const std::string& profile, size_t blocks,
                      const std::vector<uint64_t>& updates) {
    uint64_t last = 0;
    while (dies_after(last, profile, blocks, updates)) {
      ASSERT_FALSE(HasFailure()) << profile << " dies after " << last << " operations";
      ++last;
      ASSERT_LT(last, 500u);
    }
    EXPECT_GT(last, 20u);
  }
};

TEST_F(FoldCrashTest, AfterEveryOperationOfRs21) { die_everywhere("rs-2-1", 12, {1, 3, 3, 8}); }
TEST_F(FoldCrashTest, AfterEveryOperationOfRs32) { die_everywhere("rs-3-2", 14, {0, 5, 13}); }

// So many of a stripe's blocks that they are encoded anew.
TEST_F(FoldCrashTest, AfterEveryOperationOfReencoding) {
  die_everywhere("rs-4-2", 8, {0, 1, 2, 4, 5, 6});
}

// Many updates and overwrites meanwhile, dying at random places.
TEST_F(FoldCrashTest, AtRandomOfRs63) {
  for (int round = 0; round < 12; ++round) {
    make_cloud("rs-6-3");
    std::vector<StripeId> bases;
    for (uint64_t i = 0; i < 3; ++i) bases.push_back(write(random_blocks(48 * i, 48, kBlock)));
    for (int i = 0; i < 20; ++i) write({{random_() % 144, random_bytes(kBlock)}});
    operations_ = 0;
    operations_max_ = random_() % 200;
    on_operation = [&](SiteId, StoreOp op, const std::string&) {
      if (op == StoreOp::derive && random_() % 8 == 0) {
        write({{random_() % 144, random_bytes(kBlock)}});
      }
      return Fault();
    };
    fold_and_collect(bases);
    on_operation = nullptr;
    expect_readable();
    restart();
    fold_and_collect(bases);
    EXPECT_EQ(all_stripes(), bases);
    expect_readable();
    expect_audits_clean();
    expect_no_orphans();
    remove_cloud();
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

}  // namespace
}  // namespace datacloud
