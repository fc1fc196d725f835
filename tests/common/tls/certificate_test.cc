// The authority, what it signs, and how what peers show is judged.
#include "common/tls/certificate.h"

#include <gtest/gtest.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "common/base/hex.h"
#include "tests/support/tls_rig.h"

namespace datacloud {
namespace {

using Verdict = PeerCertificate::Verdict;

class CertificateTest : public ::testing::Test {
 protected:
  PeerCertificate judge(ByteView shown, CertificateUse use = CertificateUse::client,
                        int64_t later_ns = 0) {
    return judge_certificate(shown, cloud_.authority.certificate(), use, wall_now_ns() + later_ns);
  }
  Bytes certificate(const std::string& name, NodeRoles roles, int64_t valid_ns = kTestDayNs,
                    int64_t age_ns = 0) {
    return cloud_.credentials(name, roles, valid_ns, age_ns).certificate;
  }
  const TestCloud cloud_;
};

TEST_F(CertificateTest, TheAuthorityIsTheSameWheneverItIsDerived) {
  EXPECT_EQ(TestCloud().authority.certificate(), cloud_.authority.certificate());
  // What lines in use name: it never changes with the version of the program.
  EXPECT_EQ(to_hex(certificate_key_hash(cloud_.authority.certificate())),
            "bb7a90109da48a324504cb39e1a0e5184528bc67f04d3f8e9214c9a27b2d9c58");
  const TestCloud other("00000000-0000-4000-8000-000000000002");
  EXPECT_NE(other.authority.certificate(), cloud_.authority.certificate());
}

TEST_F(CertificateTest, GoodOnesNameTheNode) {
  NodeRoles roles(NodeRole::mount);
  roles.add(NodeRole::admin);
  const auto shown = cloud_.credentials("gpu07", roles);
  const auto peer = judge(shown.certificate);
  ASSERT_EQ(peer.verdict, Verdict::good) << peer.problem;
  EXPECT_EQ(peer.identity.name, "gpu07");
  EXPECT_EQ(peer.identity.cloud_uuid, cloud_.authority.cloud_uuid());
  EXPECT_EQ(peer.identity.roles, roles);
  EXPECT_EQ(peer.key_hash, shown.key.hash());
  EXPECT_EQ(peer.serial.size(), 16u);
  EXPECT_GT(peer.not_after_ns, wall_now_ns() + kTestDayNs - 5 * kNsPerSecond);
  EXPECT_LE(peer.not_after_ns, wall_now_ns() + kTestDayNs);
  EXPECT_NE(judge(certificate("gpu07", roles)).serial, peer.serial);
}

// Anybody can show any dates; years reach from 0 to 9999.
TEST_F(CertificateTest, DatesBeyondNanosecondsAreClamped) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                &EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> shown(X509_new(), &X509_free);
  ASSERT_EQ(ASN1_TIME_set_string(X509_getm_notBefore(shown.get()), "02200101000000Z"), 1);
  ASSERT_EQ(ASN1_TIME_set_string(X509_getm_notAfter(shown.get()), "99991231235959Z"), 1);
  X509_set_pubkey(shown.get(), key.get());
  ASSERT_GT(X509_sign(shown.get(), key.get(), EVP_sha256()), 0);
  const auto peer = judge_certificate(shown.get(), cloud_.authority.certificate(),
                                      CertificateUse::client, wall_now_ns());
  EXPECT_EQ(peer.verdict, Verdict::foreign);
  EXPECT_EQ(peer.not_before_ns, -kWallSecondsMax * kNsPerSecond);
  EXPECT_EQ(peer.not_after_ns, kWallSecondsMax * kNsPerSecond);
}

TEST_F(CertificateTest, TimeIsWithinTheirLife) {
  const auto shown = certificate("gpu07", NodeRole::mount);
  EXPECT_EQ(judge(shown, CertificateUse::client, kTestDayNs + 2 * kNsPerSecond).verdict,
            Verdict::expired);
  EXPECT_EQ(judge(shown, CertificateUse::client, -280 * kNsPerSecond).verdict, Verdict::good)
      << "clocks may differ by minutes";
  const auto early = judge(shown, CertificateUse::client, -3600 * kNsPerSecond);
  EXPECT_EQ(early.verdict, Verdict::expired);
  EXPECT_NE(early.problem.find("clocks"), std::string::npos);
}

TEST_F(CertificateTest, NodesAreNoDaemonsAndDaemonsNoNodes) {
  EXPECT_EQ(judge(certificate("daemon", NodeRole::daemon)).verdict, Verdict::unfit);
  EXPECT_EQ(judge(certificate("daemon", NodeRole::daemon), CertificateUse::server).verdict,
            Verdict::good);
  EXPECT_EQ(judge(certificate("gpu07", NodeRole::admin), CertificateUse::server).verdict,
            Verdict::unfit);
}

TEST_F(CertificateTest, WhatOthersSignedIsForeign) {
  const TestCloud other("00000000-0000-4000-8000-000000000002");
  const auto peer = judge(other.credentials("gpu07", NodeRole::mount).certificate);
  EXPECT_EQ(peer.verdict, Verdict::foreign);
  EXPECT_EQ(peer.identity.cloud_uuid, other.authority.cloud_uuid()) << "to be told";
  const NodeKey key = NodeKey::generate();
  EXPECT_EQ(judge(make_self_signed(NodeKey::from_seed(SecretKey::random()))).verdict,
            Verdict::foreign);
  EXPECT_EQ(judge(cloud_.authority.certificate()).verdict, Verdict::unfit)
      << "the authority is nobody's node";
  EXPECT_EQ(judge(Bytes{1, 2, 3}).verdict, Verdict::foreign);
  EXPECT_EQ(judge(Bytes()).verdict, Verdict::foreign);
  EXPECT_EQ(
      judge_certificate(nullptr, cloud_.authority.certificate(), CertificateUse::client, 0).verdict,
      Verdict::none);
}

TEST_F(CertificateTest, AnyChangedByteIsNoticed) {
  const auto shown = certificate("gpu07", NodeRole::mount);
  for (size_t i = 0; i < shown.size(); ++i) {
    Bytes changed = shown;
    changed[i] ^= 1;
    EXPECT_NE(judge(changed).verdict, Verdict::good) << "byte " << i;
  }
}

TEST_F(CertificateTest, RequestsProveTheKeyTheyAreFor) {
  const NodeKey key = NodeKey::generate();
  const Bytes request = make_certificate_request(key);
  const auto read = read_certificate_request(request);
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read.value().hash(), key.hash());
  for (size_t i = 0; i < request.size(); ++i) {
    Bytes changed = request;
    changed[i] ^= 1;
    const auto other = read_certificate_request(changed);
    EXPECT_TRUE(!other || other.value().hash() == key.hash()) << "byte " << i;
  }
  EXPECT_FALSE(read_certificate_request(ByteView(request).first(request.size() - 1)));
  EXPECT_FALSE(read_certificate_request({}));
}

TEST_F(CertificateTest, FilesAreReadStrictly) {
  const auto directory =
      std::filesystem::temp_directory_path() / ("datacloud-tls-" + std::to_string(::getpid()));
  std::filesystem::create_directories(directory);
  const auto shown = cloud_.credentials("gpu07", NodeRole::mount);
  const auto path = directory / "file";
  std::ofstream(path) << certificate_pem(shown.certificate);
  const auto certificate = read_certificate_file(path);
  ASSERT_TRUE(certificate) << certificate.error().text();
  EXPECT_EQ(certificate.value(), shown.certificate);
  std::ofstream(path) << shown.key.pem();
  ::chmod(path.c_str(), 0644);
  const auto readable = read_node_key_file(path);
  ASSERT_FALSE(readable);
  EXPECT_NE(readable.error().text().find("chmod 600"), std::string::npos);
  ::chmod(path.c_str(), 0600);
  const auto key = read_node_key_file(path);
  ASSERT_TRUE(key) << key.error().text();
  EXPECT_EQ(key.value().hash(), shown.key.hash());
  EXPECT_FALSE(read_certificate_file(path)) << "a key is no certificate";
  std::ofstream(path) << "nothing";
  EXPECT_FALSE(read_node_key_file(path));
  EXPECT_FALSE(read_node_key_file(directory / "absent"));
  std::filesystem::remove_all(directory);
}

TEST(NodeIdentity, UrisAreReadStrictly) {
  NodeRoles roles(NodeRole::mount_ro);
  roles.add(NodeRole::auditor);
  const NodeIdentity identity{"00000000-0000-4000-8000-000000000001", "gpu-07.site_a", roles};
  const std::string uri = to_uri(identity);
  EXPECT_EQ(uri, "datacloud://00000000-0000-4000-8000-000000000001/gpu-07.site_a?mount-ro,auditor");
  const auto read = parse_node_uri(uri);
  ASSERT_TRUE(read);
  EXPECT_EQ(read.value().name, identity.name);
  EXPECT_EQ(read.value().roles, roles);
  const std::string start = "datacloud://00000000-0000-4000-8000-000000000001";
  for (const std::string& wrong :
       {std::string(), start, start + "/", start + "/a", start + "/a?", start + "/a?king",
        start + "/a?mount,", start + "/?mount", start + "/a b?mount", start + "/a/b?mount",
        std::string("https://x/a?mount"), std::string("datacloud://x/a?mount"),
        start + "/" + std::string(65, 'a') + "?mount", start + "/-a?mount"}) {
    EXPECT_FALSE(parse_node_uri(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace datacloud
