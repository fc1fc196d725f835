// The record of who leads: its seal, its order, and how it is read from the sites.
#include "common/site/leader_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/hex.h"
#include "common/site/site_set.h"
#include "tests/common/site/leader_sites.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

TEST(LeaderRecord, KeyIsOfServiceKeyAndCloud) {
  const SecretKey service(Bytes(32, 7));
  EXPECT_EQ(to_hex(derive_leader_key(service, kLeaderCloud).view()),
            "a60425db6b9b11d544b8dcb86c4390e378a6f965835ca8d1044f85b868644938");
  EXPECT_NE(to_hex(derive_leader_key(service, "another").view()),
            to_hex(derive_leader_key(service, kLeaderCloud).view()));
}

TEST(LeaderRecord, OpensWithItsKeyAlone) {
  const pb::LeaderRecord record = leader_record(3, 1, "tls://a:1");
  const SecretKey key(Bytes(32, 7));
  Bytes sealed = seal_leader_record(key, record);
  ASSERT_TRUE(open_leader_record(key, sealed));
  EXPECT_EQ(open_leader_record(key, sealed).value().SerializeAsString(),
            record.SerializeAsString());
  EXPECT_NE(seal_leader_record(key, record), sealed) << "a nonce is used once";
  EXPECT_FALSE(open_leader_record(SecretKey(Bytes(32, 8)), sealed));
  for (size_t i = 0; i < sealed.size(); ++i) {
    Bytes damaged = sealed;
    damaged[i] ^= 1;
    EXPECT_FALSE(open_leader_record(key, damaged)) << i;
    EXPECT_FALSE(open_leader_record(key, ByteView(sealed).first(i))) << i;
  }
  EXPECT_FALSE(open_leader_record(key, Bytes(kLeaderRecordBytesMax + 1)));
}

// As an earlier program has written it.
TEST(LeaderRecord, IsReadInItsFormat) {
  Bytes sealed(65);
  ASSERT_TRUE(
      from_hex("44434c5201000000000102030405060708090a0b1082f9750508fb5c7db489f9833c0988f335c2e2"
               "6b58581e77f452a28fd15d4c25b7dd81d402bb10fa957c54e7",
               sealed));
  const auto record = open_leader_record(SecretKey(Bytes(32, 7)), sealed);
  ASSERT_TRUE(record) << record.error().message();
  EXPECT_EQ(record.value().SerializeAsString(),
            leader_record(3, 1, "tls://a:1").SerializeAsString());
}

TEST(LeaderRecord, NewestIsOfTheHighestEpochThenRevision) {
  EXPECT_TRUE(is_newer(leader_record(4, 1, "a"), leader_record(3, 9, "a")));
  EXPECT_TRUE(is_newer(leader_record(3, 2, "a"), leader_record(3, 1, "a")));
  EXPECT_FALSE(is_newer(leader_record(3, 1, "a"), leader_record(3, 1, "b")));
  pb::LeaderRecord other = leader_record(3, 1, "a");
  other.set_nonce(100);
  EXPECT_TRUE(is_newer(other, leader_record(3, 9, "a"))) << "another leadership of that number";
}

TEST(LeaderRecord, TheNewestOfAllSitesIsRead) {
  LeaderSites sites(3);
  EXPECT_THAT(sites.read().error().text(), HasSubstr("do not tell who leads"));
  sites.put(0, 0, leader_record(3, 1, "tls://three:1"));
  EXPECT_EQ(sites.leader(), "tls://three:1");
  sites.put(1, 1, leader_record(5, 1, "tls://five:1"));
  sites.put(1, 0, leader_record(4, 7, "tls://four:1"));
  EXPECT_EQ(sites.leader(), "tls://five:1");
  sites.put_bytes(2, 0, Bytes(100, 1));
  sites.put(2, 1, leader_record(5, 2, "tls://five:2"));
  EXPECT_EQ(sites.leader(), "tls://five:2") << "a damaged one beside it is no obstacle";
  sites.take_away(2);
  EXPECT_EQ(sites.leader(), "tls://five:1") << "what is left counts";
}

}  // namespace
}  // namespace datacloud
