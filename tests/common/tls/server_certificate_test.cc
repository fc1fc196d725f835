// Servers that an organisation has certified: who is shown what, and by what a client knows them.
#include "common/tls/server_certificate.h"

#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/base/clock.h"
#include "common/base/hex.h"
#include "common/tls/organisation.h"
#include "common/tls/tls_stream.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tls_rig.h"

namespace datacloud {
namespace {

using testing::HasSubstr;
using Verdict = PeerCertificate::Verdict;

// By openssl(1), as an organisation would.
class Organisation {
 public:
  explicit Organisation(const std::string& name) {
    run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=" + name +
        "' -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem");
  }
  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }
  void sign(const std::string& name, const std::string& alternatives,
            const std::string& use = "serverAuth", const std::string& days = "9",
            const std::string& ca = "ca") {
    std::ofstream(path(name + ".ext"))
        << "extendedKeyUsage=" + use + "\nsubjectAltName=" + alternatives + "\n";
    request(name);
    run("openssl x509 -req -in " + name + ".csr -CA " + ca + ".pem -CAkey " + ca +
        ".key -CAcreateserial -days " + days + " -extfile " + name + ".ext -out " + name + ".pem");
  }
  // An authority below it.
  void sign_authority(const std::string& name) {
    std::ofstream(path(name + ".ext"))
        << "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
    request(name);
    run("openssl x509 -req -in " + name +
        ".csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 "
        "-extfile " +
        name + ".ext -out " + name + ".pem");
  }
  void run(const std::string& command) const {
    const std::string whole =
        "cd " + directory_.path().string() + " && " + command + " 2>/dev/null";
    ASSERT_EQ(std::system(whole.c_str()), 0) << command;
  }
  std::shared_ptr<const ServerCertificate> read(const std::string& name) const {
    auto read = ServerCertificate::read(path(name + ".pem"), path(name + ".key"));
    EXPECT_TRUE(read) << read.error().text();
    return read ? std::move(read).value() : nullptr;
  }
  Bytes authority() const { return read_authorities_file(path("ca.pem")).value(); }

 private:
  void request(const std::string& name) {
    run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=" + name +
        "' -keyout " + name + ".key -out " + name + ".csr");
    ::chmod(path(name + ".key").c_str(), 0600);
  }
  const TemporaryDirectory directory_;
};

class ServerCertificates : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ours_ = new Organisation("Example CA");
    ours_->sign("daemon", "URI:https://data.example/d,DNS:data.example");
  }
  static void TearDownTestSuite() {
    delete ours_;
    ours_ = nullptr;
  }

  // What a client that expects `identities` finds at a server that has `shown` beside its own.
  PeerCertificate meet(std::shared_ptr<const ServerCertificate> shown, Bytes organisation,
                       std::vector<std::string> identities) {
    TlsCredentials of_server = cloud_.credentials("daemon", NodeRole::daemon);
    of_server.organisation = std::move(shown);
    TlsCredentials of_client = cloud_.credentials("node", NodeRole::mount);
    of_client.authority.insert(of_client.authority.end(), organisation.begin(), organisation.end());
    of_client.identities = std::move(identities);
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    TlsStream client(fds[0], TlsContext::make(TlsContext::Side::client, of_client).value());
    TlsStream server(fds[1], TlsContext::make(TlsContext::Side::server, of_server).value());
    for (int i = 0; i < 20; ++i) {
      const auto a = client.handshake(), b = server.handshake();
      EXPECT_TRUE(a && b);
      if (!a || !b || (a.value() && b.value())) break;
    }
    return client.peer(wall_now_ns());
  }

  static Organisation* ours_;
  const TestCloud cloud_;
};
Organisation* ServerCertificates::ours_ = nullptr;

TEST_F(ServerCertificates, EachClientIsShownWhatItKnows) {
  const auto shown = ours_->read("daemon");
  ASSERT_TRUE(shown);
  for (const char* identity : {"https://data.example/d", "dns:data.example"}) {
    const auto known = meet(shown, ours_->authority(), {"https://other.example/", identity});
    EXPECT_EQ(known.verdict, Verdict::good) << known.problem;
    EXPECT_TRUE(known.named);
    EXPECT_TRUE(known.identity.roles.empty()) << "it says nothing of roles";
  }
  const auto old = meet(shown, {}, {});
  EXPECT_EQ(old.verdict, Verdict::good) << old.problem;
  EXPECT_FALSE(old.named);
  EXPECT_TRUE(old.identity.roles.has(NodeRole::daemon)) << "the cloud's own";
  const auto none = meet(nullptr, ours_->authority(), {"dns:data.example"});
  EXPECT_EQ(none.verdict, Verdict::good) << none.problem;
  EXPECT_FALSE(none.named);
  EXPECT_TRUE(none.identity.roles.has(NodeRole::daemon)) << "a server that has no other";
  const Organisation other("Other CA");
  const auto elsewhere = meet(shown, other.authority(), {"dns:data.example"});
  EXPECT_FALSE(elsewhere.named) << "it is asked for another's, and shows the cloud's";
  EXPECT_EQ(elsewhere.verdict, Verdict::good) << elsewhere.problem;
}

TEST_F(ServerCertificates, WhatIsWrongIsNamed) {
  const auto wrong = meet(ours_->read("daemon"), ours_->authority(), {"dns:elsewhere.example"});
  EXPECT_EQ(wrong.verdict, Verdict::unfit);
  EXPECT_FALSE(wrong.named);
  EXPECT_THAT(wrong.problem, HasSubstr("dns:elsewhere.example"));
  EXPECT_THAT(wrong.problem, HasSubstr("https://data.example/d"));
  ours_->sign("late", "DNS:data.example", "serverAuth", "0");
  const auto late = meet(ours_->read("late"), ours_->authority(), {"dns:data.example"});
  EXPECT_EQ(late.verdict, Verdict::expired);
  EXPECT_THAT(late.problem, HasSubstr("CN=late"));
  // The same name as ours has, and another key.
  Organisation twin("Example CA");
  twin.sign("daemon", "DNS:data.example");
  const auto forged = meet(twin.read("daemon"), ours_->authority(), {"dns:data.example"});
  EXPECT_EQ(forged.verdict, Verdict::foreign);
  EXPECT_FALSE(forged.named);
  EXPECT_THAT(forged.problem, HasSubstr("neither"));
}

TEST_F(ServerCertificates, AFingerprintIsOneCertificate) {
  const auto shown = ours_->read("daemon");
  const auto one = read_certificate_file(ours_->path("daemon.pem"));
  ASSERT_TRUE(one);
  const std::string digits = to_hex(certificate_fingerprint(one.value()));
  EXPECT_TRUE(meet(shown, ours_->authority(), {"sha256:" + digits}).named);
  std::string another = digits;
  another[0] = another[0] == '0' ? '1' : '0';
  EXPECT_FALSE(meet(shown, ours_->authority(), {"sha256:" + another}).named);
}

// The server brings what is between it and the authority that the client knows.
TEST_F(ServerCertificates, AuthoritiesBetweenComeWithIt) {
  ours_->sign_authority("below");
  ours_->sign("deep", "DNS:data.example", "serverAuth", "9", "below");
  EXPECT_EQ(meet(ours_->read("deep"), ours_->authority(), {"dns:data.example"}).verdict,
            Verdict::good)
      << "without the one between the client's name is not recognised, and it gets the cloud's own";
  EXPECT_FALSE(meet(ours_->read("deep"), ours_->authority(), {"dns:data.example"}).named);
  ours_->run("cat below.pem >>deep.pem");
  const auto whole = meet(ours_->read("deep"), ours_->authority(), {"dns:data.example"});
  EXPECT_TRUE(whole.named) << whole.problem;
}

TEST_F(ServerCertificates, FilesAreReadStrictly) {
  const auto problem = [&](const std::string& certificate, const std::string& key) {
    const auto read = ServerCertificate::read(ours_->path(certificate), ours_->path(key));
    EXPECT_FALSE(read);
    return read ? "" : read.error().text();
  };
  ours_->sign("client", "DNS:client", "clientAuth");
  EXPECT_THAT(problem("client.pem", "client.key"), HasSubstr("serverAuth"));
  EXPECT_THAT(problem("daemon.pem", "client.key"), HasSubstr("another key"));
  EXPECT_THAT(problem("daemon.key", "daemon.key"), HasSubstr("holds no certificate"));
  EXPECT_THAT(problem("daemon.pem", "daemon.pem"), HasSubstr("daemon.pem"));
  EXPECT_THAT(problem("nothing.pem", "daemon.key"), HasSubstr("nothing.pem"));
  EXPECT_THAT(problem("daemon.pem", "nothing.key"), HasSubstr("nothing.key"));
  ours_->run("cat daemon.pem ca.pem ca.pem ca.pem ca.pem ca.pem >long.pem");
  EXPECT_THAT(problem("long.pem", "daemon.key"), HasSubstr("more than 4"));
  ours_->run("cp daemon.key open.key; chmod 640 open.key");
  EXPECT_THAT(problem("daemon.pem", "open.key"), HasSubstr("chmod 600"));
}

TEST_F(ServerCertificates, ARenewedPairIsReadWhenBothAreThere) {
  Organisation place("Example CA");
  place.sign("a", "DNS:a.example");
  place.sign("b", "DNS:b.example");
  place.run("cp -p a.pem shown.pem; cp -p a.key shown.key");
  ServerCertificateFiles files(place.path("shown.pem"), place.path("shown.key"));
  const auto identity = [&] { return files.get().value()->identity(); };
  EXPECT_EQ(identity(), "dns:a.example");
  const auto first = files.get().value();
  EXPECT_EQ(files.get().value(), first) << "what has not changed is not read";
  place.run("mv b.pem shown.pem");
  EXPECT_EQ(identity(), "dns:a.example") << "its key is not there yet";
  place.run("mv b.key shown.key");
  EXPECT_EQ(identity(), "dns:b.example");
  place.run("rm shown.pem");
  EXPECT_EQ(identity(), "dns:b.example") << "what was good counts on";
  ServerCertificateFiles absent(place.path("shown.pem"), place.path("shown.key"));
  EXPECT_FALSE(absent.get());
  ServerCertificateFiles none("", "");
  EXPECT_EQ(none.get().value(), nullptr);
}

TEST(ServerIdentity, HasOneOfThreeForms) {
  const std::string digits(64, 'a');
  for (const std::string& good : {std::string("https://a/b"), std::string("spiffe://a/b"),
                                  std::string("dns:a.example"), "sha256:" + digits})
    EXPECT_TRUE(check_server_identity(good)) << good;
  for (const std::string& bad :
       {std::string(), std::string("a.example"), std::string("dns:"), std::string("dns:*.a"),
        std::string("dns:a:1"), std::string("sha256:aa"), std::string(":x"), std::string(600, ':')})
    EXPECT_FALSE(check_server_identity(bad)) << bad;
}

}  // namespace
}  // namespace datacloud
