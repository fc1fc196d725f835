// Every kind of request that the protocol knows is answered by somebody, and only one.
#include <map>

#include "common/proto/admin.pb.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

using Kinds = std::map<int, std::string>;

Kinds kinds_of(const google::protobuf::Descriptor& message) {
  Kinds kinds;
  const auto* op = message.FindOneofByName("op");
  EXPECT_NE(op, nullptr) << message.full_name();
  for (int i = 0; op != nullptr && i < op->field_count(); ++i) {
    kinds[op->field(i)->number()] = op->field(i)->name();
  }
  return kinds;
}

TEST(RequestTable, HoldsEveryKindOfRequestOnce) {
  Kinds kinds = kinds_of(*pb::Request::descriptor());
  EXPECT_EQ(kinds.erase(pb::Request::kHello), 1u) << "makes the session that all others need";
  EXPECT_EQ(kinds.erase(pb::Request::kJoin), 1u) << "of machines that have no session";
  for (const auto& operation : MetadataService::operations()) {
    EXPECT_NE(operation.handler, nullptr);
    EXPECT_EQ(kinds.erase(operation.request), 1u) << operation.request;
  }
  EXPECT_TRUE(kinds.empty()) << "not in the table: " << kinds.begin()->second;
}

TEST(RequestTable, MountsMayAnswerRecallsWhileOthersWait) {
  const std::set<pb::Request::OpCase> never_wait{
      pb::Request::kKeepalive,  pb::Request::kGrant,  pb::Request::kRelease,
      pb::Request::kRecallDone, pb::Request::kMap,    pb::Request::kCommit,
      pb::Request::kAbandon,    pb::Request::kDamage, pb::Request::kSync};
  for (const auto& operation : MetadataService::operations()) {
    if (never_wait.contains(operation.request)) {
      EXPECT_FALSE(operation.may_wait) << operation.request;
    }
    // What files hold is changed by who holds leases.
    EXPECT_FALSE(operation.may_wait && operation.for_tools) << operation.request;
  }
}

class RequestTableTest : public ServiceTest {};

TEST_F(RequestTableTest, RequestsForMountsAreRefusedToTools) {
  for (const auto& operation : MetadataService::operations()) {
    if (operation.for_tools) continue;
    pb::Request request;
    const auto* field = pb::Request::descriptor()->FindFieldByNumber(operation.request);
    pb::Request::GetReflection()->MutableMessage(&request, field);
    auto asker = tool();
    const auto reply = call(asker, request);
    EXPECT_NE(reply.error_text().find("for mounts only"), std::string::npos) << field->name();
  }
}

TEST_F(RequestTableTest, EveryRequestOfTheAdministratorIsKnown) {
  auto asker = tool();
  for (const auto& [number, name] : kinds_of(*pb::AdminRequest::descriptor())) {
    pb::AdminRequest admin;
    const auto* field = pb::AdminRequest::descriptor()->FindFieldByNumber(number);
    pb::AdminRequest::GetReflection()->MutableMessage(&admin, field);
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    const auto reply = call(asker, request);
    EXPECT_EQ(reply.error_text().find("does not know"), std::string::npos) << name;
  }
}

TEST_F(RequestTableTest, WhatIsNotKnownIsRefused) {
  auto client = mount(10);
  EXPECT_NE(call(client, pb::Request()).error_text().find("does not know"), std::string::npos);
  auto asker = tool();
  pb::Request request;
  request.set_admin(pb::AdminRequest().SerializeAsString());
  EXPECT_NE(call(asker, request).error_text().find("does not know"), std::string::npos);
}

}  // namespace
}  // namespace datacloud
