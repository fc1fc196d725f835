// The OSD class on a real OSD: version, xor (exactly once), prove, combine, and hostile requests.
//
// Runs as client.datacloud, with the capabilities the documentation asks for, at the first site of
// DATACLOUD_CEPH_SITES (tests/support/with-ceph-sites.sh).
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <rados/librados.hpp>
#include <thread>

#include "common/store/object_compute.h"
#include "common/store/rados/osd_class_abi.h"
#include "common/tags/audit_tag.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

librados::bufferlist list_of(ByteView bytes) {
  librados::bufferlist list;
  list.append(reinterpret_cast<const char*>(bytes.data()), static_cast<unsigned>(bytes.size()));
  return list;
}

Bytes bytes_of(librados::bufferlist& list) {
  const auto* data = reinterpret_cast<const uint8_t*>(list.c_str());
  return Bytes(data, data + list.length());
}

class ClsDatacloud : public testing::Test {
 protected:
  void SetUp() override {
    const char* sites = std::getenv("DATACLOUD_CEPH_SITES");
    ASSERT_NE(sites, nullptr) << "run this through tests/support/with-ceph-sites.sh 1 --";
    const std::string conf = std::string(sites) + "/site1/ceph.conf";
    ASSERT_EQ(cluster_.init2("client.datacloud", "ceph", 0), 0);
    ASSERT_EQ(cluster_.conf_read_file(conf.c_str()), 0) << conf;
    cluster_.conf_set("client_mount_timeout", "20");
    cluster_.conf_set("rados_osd_op_timeout", "20");
    ASSERT_EQ(cluster_.connect(), 0) << conf;
    connected_ = true;
    ASSERT_EQ(cluster_.ioctx_create("datacloud", io_), 0);
    prefix_ = "cls-test-" + std::to_string(::getpid()) + "-";
  }
  void TearDown() override {
    for (const auto& name : names_) io_.remove(name);
    io_.close();
    if (connected_) cluster_.shutdown();
  }

  std::string name(const std::string& stem) {
    names_.push_back(prefix_ + stem);
    return names_.back();
  }

  std::string put(const std::string& stem, ByteView data, const Attributes& attributes) {
    const auto object = name(stem);
    librados::ObjectWriteOperation op;
    op.create(true);
    op.write_full(list_of(data));
    for (const auto& [attribute, value] : attributes) {
      op.setxattr(rados_xattr(attribute).c_str(), list_of(as_bytes(value)));
    }
    EXPECT_EQ(io_.operate(object, &op), 0);
    return object;
  }

  // What derive does first.
  std::string copy(const std::string& stem, const std::string& source) {
    const auto object = name(stem);
    librados::ObjectWriteOperation op;
    op.create(true);
    op.copy_from(source, io_, 0, 0);
    EXPECT_EQ(io_.operate(object, &op), 0);
    return object;
  }

  int apply(const std::string& object, ByteView request) {
    librados::ObjectWriteOperation op;
    auto in = list_of(request);
    op.exec(kClassName, kClassXorMethod, in);
    return io_.operate(object, &op);
  }

  int call(const std::string& object, const char* method, ByteView request, Bytes& reply) {
    auto in = list_of(request);
    librados::bufferlist out;
    const int rc = io_.exec(object, kClassName, method, in, out);
    if (rc >= 0) reply = bytes_of(out);
    return rc;
  }

  DerivedObject held(const std::string& object) {
    DerivedObject found;
    librados::bufferlist data;
    EXPECT_GE(io_.read(object, data, 0, 0), 0);
    found.data = bytes_of(data);
    for (const char* attribute : {kInstanceAttribute, kTagsAttribute}) {
      librados::bufferlist value;
      if (io_.getxattr(object, rados_xattr(attribute).c_str(), value) >= 0) {
        found.attributes[attribute] = value.to_str();
      }
    }
    return found;
  }

  void expect_derived(const std::string& object, const DerivedObject& expected) {
    const auto found = held(object);
    EXPECT_TRUE(found.data == expected.data) << object;
    EXPECT_EQ(found.attributes, expected.attributes) << object;
  }

  librados::Rados cluster_;
  librados::IoCtx io_;
  bool connected_ = false;
  std::string prefix_;
  std::vector<std::string> names_;
  Seeded random_;
};

TEST_F(ClsDatacloud, SaysItsVersion) {
  const auto object = put("object", Bytes(1), {});
  Bytes reply;
  ASSERT_GE(call(object, kClassVersionMethod, {}, reply), 0);
  ClassVersion version;
  ASSERT_TRUE(decode_class_version(reply, version));
  EXPECT_EQ(version.abi, kClassAbi);
  EXPECT_FALSE(version.software.empty());
}

TEST_F(ClsDatacloud, XorsWhatDeriveComputes) {
  const size_t size = 100'000;
  const Bytes data = random_.bytes(size), tags = random_.bytes(kFieldBytes * 25);
  const auto attributes = shard_attributes(7, tags);
  const auto base = put("base", data, attributes);
  int number = 0;
  for (const size_t new_size : {size, size + 1, size_t{123'457}, size_t{4u << 20}}) {
    for (const bool with_ranges : {true, false}) {
      Derivation d{base, 7, 8, new_size, {}, {}};
      for (int i = with_ranges ? 12 : 0; i > 0; --i) {  // some overlap
        const uint64_t offset = random_.number(0, new_size - 1);
        const uint64_t length = random_.number(0, std::min<uint64_t>(new_size - offset, 9000));
        d.data.push_back({offset, random_.bytes(length)});
        d.tags.push_back({kFieldBytes * random_.number(0, audit_blocks_of(new_size) - 1),
                          random_.bytes(kFieldBytes)});
      }
      const auto object = copy("derived-" + std::to_string(++number), base);
      ASSERT_EQ(apply(object, encode_xor_request(d)), 0);
      const auto expected = derive_object(data, attributes, d).value();
      expect_derived(object, expected);
      ASSERT_EQ(apply(object, encode_xor_request(d)), 0) << "sent again";
      expect_derived(object, expected);
    }
  }
  expect_derived(base, {data, attributes, 0});
}

// The same request from many senders at once, as after time-outs: it counts once.
TEST_F(ClsDatacloud, XorHappensOnce) {
  const Bytes data = random_.bytes(50'000), tags = random_.bytes(kFieldBytes * 13);
  const auto base = put("base", data, shard_attributes(7, tags));
  const Derivation d{base, 7, 8, data.size(), {{10, random_.bytes(40'000)}}, {{0, Bytes(16, 3)}}};
  const auto expected = derive_object(data, shard_attributes(7, tags), d).value();
  for (int round = 0; round < 10; ++round) {
    const auto object = copy("raced-" + std::to_string(round), base);
    std::vector<std::thread> senders;
    for (int i = 0; i < 5; ++i) {
      senders.emplace_back([&] { EXPECT_EQ(apply(object, encode_xor_request(d)), 0); });
    }
    for (auto& sender : senders) sender.join();
    expect_derived(object, expected);
  }
}

TEST_F(ClsDatacloud, RefusesToXor) {
  const Bytes data = random_.bytes(5000), tags = random_.bytes(32);
  const auto base = put("base", data, shard_attributes(7, tags));
  const Derivation good{base, 7, 8, 5000, {{0, {1}}}, {}};
  const auto object = copy("derived", base);
  auto d = good;
  d.source_instance = 6;
  EXPECT_EQ(apply(object, encode_xor_request(d)), -ECANCELED);
  d = good;
  d.size = 4999;
  EXPECT_EQ(apply(object, encode_xor_request(d)), -EBADMSG);
  d = good;
  d.data[0].offset = 5000;
  EXPECT_EQ(apply(object, encode_xor_request(d)), -EINVAL);
  auto request = encode_xor_request(good);
  request[0] = 2;
  EXPECT_EQ(apply(object, request), -EPROTONOSUPPORT);
  EXPECT_EQ(apply(object, ByteView(request).first(3)), -EINVAL);
  EXPECT_EQ(apply(prefix_ + "nothing", encode_xor_request(good)), -ENOENT);
  const auto plain = put("plain", data, {});
  EXPECT_EQ(apply(plain, encode_xor_request(good)), -EBADMSG);
  expect_derived(object, {data, shard_attributes(7, tags), 0});
  // Copied from another source than was meant.
  const auto other = copy("other", put("base2", data, shard_attributes(9, tags)));
  EXPECT_EQ(apply(other, encode_xor_request(good)), -ECANCELED);
}

TEST_F(ClsDatacloud, ProvesAsTheDefinitionSays) {
  const AuditTagger tagger(SecretKey(random_.bytes(32)));
  for (const size_t size :
       {size_t{1}, size_t{1000}, size_t{4096}, size_t{200'001}, size_t{4u << 20}}) {
    const Bytes data = random_.bytes(size);
    const Bytes tags = tagger.tags({5, 1}, 7, data);
    const auto object = put("shard-" + std::to_string(size), data, shard_attributes(7, tags));
    const uint64_t blocks = audit_blocks_of(size);
    for (const uint64_t samples : {uint64_t{0}, uint64_t{1}, blocks / 2 + 1}) {
      const auto challenge = random_challenge(blocks + 3, samples);
      Bytes reply;
      ASSERT_GE(call(object, kClassProveMethod, encode_prove_request(challenge), reply), 0);
      AuditProof proof;
      ASSERT_TRUE(decode_prove_reply(reply, proof));
      EXPECT_LE(reply.size(), 4096u + 48);
      EXPECT_EQ(proof.object_size, size);
      EXPECT_EQ(proof.instance, 7u);
      EXPECT_TRUE(proof.at_site);
      auto plan = plan_proof(challenge, size, shard_attributes(7, tags)).value();
      std::vector<Bytes> ranges;
      for (const auto& range : plan.ranges) {
        ranges.push_back(to_bytes(ByteView(data).subspan(range.offset, range.length)));
      }
      const auto expected = plan.prove(ranges).value();
      EXPECT_TRUE(proof.mu == expected.mu) << size;
      EXPECT_EQ(proof.tag, expected.tag) << size;
      EXPECT_TRUE(tagger.verify({{5, 1}, 7, size, {{0, 7}}}, challenge, proof));
    }
  }
}

TEST_F(ClsDatacloud, RefusesToProve) {
  Bytes reply;
  const auto all = encode_prove_request({{}, 10, 0});
  EXPECT_EQ(call(prefix_ + "nothing", kClassProveMethod, all, reply), -ENOENT);
  EXPECT_EQ(call(put("plain", Bytes(5), {}), kClassProveMethod, all, reply), -EBADMSG);
  const auto few = put("few", Bytes(5000), shard_attributes(1, Bytes(16)));
  EXPECT_EQ(call(few, kClassProveMethod, all, reply), -EBADMSG);
  auto odd = shard_attributes(1, Bytes(16));
  odd[kInstanceAttribute] = "123";
  EXPECT_EQ(call(put("odd", Bytes(50), odd), kClassProveMethod, all, reply), -EBADMSG);
}

TEST_F(ClsDatacloud, CombinesRanges) {
  const Bytes data = random_.bytes(300'000);
  const auto object = put("object", data, {});
  for (int round = 0; round < 10; ++round) {
    Combination c;
    const uint64_t length = random_.number(0, 70'000);
    const size_t ranges = random_.number(1, 8), outputs = random_.number(1, 5);
    std::vector<Bytes> read;
    for (size_t i = 0; i < ranges; ++i) {
      c.ranges.push_back({random_.number(0, 400'000), length});
      const auto offset = std::min<uint64_t>(c.ranges[i].offset, data.size());
      read.push_back(to_bytes(
          ByteView(data).subspan(offset, std::min<uint64_t>(length, data.size() - offset))));
    }
    for (size_t j = 0; j < outputs; ++j) c.coefficients.push_back(random_.bytes(ranges));
    Bytes reply;
    ASSERT_GE(call(object, kClassCombineMethod, encode_combine_request(c), reply), 0);
    CombineReply combined;
    ASSERT_TRUE(decode_combine_reply(reply, c, combined));
    EXPECT_TRUE(combined.at_site);
    EXPECT_TRUE(combined.outputs == combine_ranges(read, c).outputs) << round;
  }
  Bytes reply;
  const auto one = encode_combine_request({{{0, 1}}, {{1}}});
  EXPECT_EQ(call(prefix_ + "nothing", kClassCombineMethod, one, reply), -ENOENT);
}

// Whatever is sent, the OSD answers, and goes on answering.
TEST_F(ClsDatacloud, SurvivesHostileRequests) {
  const auto object = put("object", Bytes(10'000), shard_attributes(7, Bytes(48)));
  const std::vector<Bytes> seeds = {
      encode_xor_request({"", 7, 8, 20'000, {{5, Bytes(100)}}, {{0, Bytes(16)}}}),
      encode_prove_request({{}, 3, 2}), encode_combine_request({{{0, 9}, {5, 9}}, {{1, 2}}})};
  const char* methods[] = {kClassXorMethod, kClassProveMethod, kClassCombineMethod};
  for (int round = 0; round < 600; ++round) {
    Bytes request = seeds[random_.number(0, 2)];
    for (uint64_t i = random_.number(1, 4); i > 0; --i) {
      const size_t at = random_.number(0, request.size() - 1);
      request[at] = static_cast<uint8_t>(random_.number(0, 255));
      if (random_.number(0, 9) == 0) request.resize(at + 1);
    }
    Bytes reply;
    const char* method = methods[random_.number(0, 2)];
    const int rc = call(object, method, request, reply);
    EXPECT_NE(rc, -ETIMEDOUT) << method << " " << round;
  }
  Bytes reply;
  EXPECT_GE(call(object, kClassVersionMethod, {}, reply), 0);
}

}  // namespace
}  // namespace datacloud
