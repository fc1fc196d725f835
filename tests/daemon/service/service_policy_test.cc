// Policies of directories as the administrator sets them: bounds, what fits together, what is made
// below inherits.
#include "common/proto/admin.pb.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

class ServicePolicyTest : public ServiceTest {
 protected:
  struct Answer {
    pb::PolicyReply policy;
    std::string error;
  };
  Answer ask(const std::function<void(pb::PolicyRequest&)>& fill) {
    pb::AdminRequest admin;
    admin.mutable_policy()->set_path("/");
    fill(*admin.mutable_policy());
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    auto asker = tool();
    const auto reply = call(asker, request);
    pb::AdminReply out;
    EXPECT_TRUE(out.ParseFromString(reply.admin()));
    return {out.policy(), reply.error_text()};
  }
  Answer show() {
    return ask([](pb::PolicyRequest&) {});
  }
  Answer set(uint32_t block_bytes, uint32_t shard_bytes) {
    return ask([&](pb::PolicyRequest& policy) {
      policy.set_change(true);
      policy.set_block_bytes(block_bytes);
      policy.set_shard_bytes(shard_bytes);
    });
  }
};

TEST_F(ServicePolicyTest, SizesOfShardsAreSetAndInherited) {
  EXPECT_EQ(show().policy.policy().shard_bytes(), 0u);
  EXPECT_EQ(set(0, 128 << 10).policy.policy().shard_bytes(), 128u << 10);
  EXPECT_EQ(show().policy.policy().shard_bytes(), 128u << 10);
  auto client = mount(10);
  const auto reply = call(client, create_request("below"));
  ASSERT_EQ(reply.error(), 0);
  EXPECT_EQ(reply.attr().inode().policy().shard_bytes(), 128u << 10);
  // The largest is what there was before sizes, and recorded as then.
  EXPECT_EQ(set(0, 4u << 20).error, "");
  EXPECT_EQ(show().policy.policy().shard_bytes(), 0u);
}

TEST_F(ServicePolicyTest, OnlyPowersOfTwoWithinBounds) {
  for (const uint32_t wrong : {1u, 32u << 10, 65537u, 96u << 10, 8u << 20, ~0u}) {
    EXPECT_NE(set(0, wrong).error.find("64 KiB to 4 MiB"), std::string::npos) << wrong;
  }
  EXPECT_EQ(show().policy.policy().shard_bytes(), 0u);
}

TEST_F(ServicePolicyTest, BlocksMustFitWhicheverIsChanged) {
  EXPECT_EQ(set(4096, 64 << 10).error, "");
  EXPECT_NE(set(128 << 10, 0).error.find("do not fit"), std::string::npos);
  EXPECT_EQ(set(256 << 10, 256 << 10).error, "");
  EXPECT_NE(set(0, 128 << 10).error.find("do not fit"), std::string::npos);
  EXPECT_EQ(show().policy.policy().block_bytes(), 256u << 10);
  EXPECT_EQ(show().policy.policy().shard_bytes(), 256u << 10);
}

}  // namespace
}  // namespace datacloud
