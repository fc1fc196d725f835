// Folds into members of a group: the XOR row's same columns change with them, in one transaction.
#include "tests/daemon/fold/fold_group_rig.h"

namespace datacloud {
namespace {

constexpr size_t kBlock = 4096;

class FoldGroupsTest : public FoldGroupRig {
 protected:
  void TearDown() override { remove_cloud(); }

  void expect_row_is_sum(StripeId row, const std::vector<StripeId>& members) {
    const auto stripe = *record(row);
    for (int c = 0; c < code_->n(); ++c) {
      EXPECT_EQ(*object(stripe, c), sum_of(members, c)) << "column " << c;
    }
  }
};

TEST_F(FoldGroupsTest, TheRowChangesWithItsMember) {
  make_cloud("rs-3-2");
  // Members of different lengths: the row is as long as the longest.
  const std::vector<StripeId> members{write(random_blocks(0, 12, kBlock)),
                                      write(random_blocks(20, 9, kBlock)),
                                      write(random_blocks(40, 15, kBlock))};
  const StripeId row = add_row_of(members);
  expect_row_is_sum(row, members);
  for (const uint64_t block : {1, 5, 25, 41, 54}) write({{block, random_bytes(kBlock)}});
  for (const StripeId member : members) {
    const auto outcome = fold(member);
    EXPECT_EQ(outcome.kind, FoldOutcome::Kind::folded) << outcome.reason;
    expect_row_is_sum(row, members);
    expect_readable();
  }
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(FoldGroupsTest, WithoutTheRowNothingChanges) {
  make_cloud("rs-3-2");
  const std::vector<StripeId> members{write(random_blocks(0, 12, kBlock)),
                                      write(random_blocks(20, 12, kBlock))};
  const StripeId row = add_row_of(members);
  write({{1, random_bytes(kBlock)}});
  int derived = 0;
  on_operation = [&](SiteId, StoreOp op, const std::string&) {
    if (op != StoreOp::derive || ++derived < 4) return Fault();
    return Fault{Fault::Kind::fail_before, Error(Errc::timed_out, "late"), {}};
  };
  EXPECT_EQ(fold(members[0]).kind, FoldOutcome::Kind::blocked);
  on_operation = nullptr;
  expect_row_is_sum(row, members);
  expect_readable();
  expect_no_orphans();
  EXPECT_EQ(fold(members[0]).kind, FoldOutcome::Kind::folded);
  expect_row_is_sum(row, members);
  expect_audits_clean();
  expect_no_orphans();
}

// The daemon dies after every single object operation of a fold with its row.
TEST_F(FoldGroupsTest, AtEveryInstantTheRowIsTheSum) {
  for (uint64_t last = 0, died = 1; died != 0; ++last) {
    make_cloud("rs-2-1");
    const std::vector<StripeId> members{write(random_blocks(0, 8, kBlock)),
                                        write(random_blocks(20, 8, kBlock))};
    const StripeId row = add_row_of(members);
    for (const uint64_t block : {1, 6}) write({{block, random_bytes(kBlock)}});
    operations_ = 0;
    operations_max_ = last;
    (void)fold_stripe(*context_, *ids_, members[0], {});
    if (!crashed_) collect_garbage();
    died = crashed_ ? 1 : 0;
    expect_row_is_sum(row, members);
    expect_readable();
    restart();
    (void)fold_stripe(*context_, *ids_, members[0], {});
    expect_row_is_sum(row, members);
    expect_readable();
    expect_audits_clean();
    expect_no_orphans();
    remove_cloud();
    ASSERT_FALSE(HasFailure()) << "after " << last << " operations";
    ASSERT_LT(last, 200u);
  }
}

}  // namespace
}  // namespace datacloud
