// Lines by which machines join: every slip is noticed, and only the line opens what is sealed.
#include "common/tls/join_line.h"

#include <gtest/gtest.h>

#include "common/base/hex.h"
#include "tests/support/tls_rig.h"

namespace datacloud {
namespace {

JoinLine sample() {
  JoinLine line;
  line.authority_hash = Bytes(32, 0xab);
  line.secret = SecretKey(ByteView(Bytes(32, 0x17)));
  line.expires_s = 1'800'000'000;
  line.name = "gpu07";
  line.addresses = {"tls://daemon.example.org:7411", "tls://[2001:db8::1]:7411"};
  return line;
}

TEST(JoinLine, IsOneLineAndReadAsItWas) {
  const std::string text = encode_join_line(sample());
  EXPECT_LT(text.size(), 250u);
  EXPECT_EQ(text.find_first_of(" \n'\"$&;|"), std::string::npos) << "safe in a shell";
  // The format is kept: a line that was made before an update still works.
  EXPECT_EQ(text,
            "datacloud-join-1.q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6sXFxcXFxcXFxcXFxcXFxc"
            "XFxcXFxcXFxcXFxcXFxcXFwAAAABrSdIABWdwdTA3Ah10bHM6Ly9kYWVtb24uZXhhbXBsZS5vcmc6NzQ"
            "xMRh0bHM6Ly9bMjAwMTpkYjg6OjFdOjc0MTGZo0g0");
  for (const auto& typed : {text, text + "\n", "  " + text + " \r\n"}) {
    const auto line = parse_join_line(typed);
    ASSERT_TRUE(line) << line.error().text();
    EXPECT_EQ(line.value().authority_hash, sample().authority_hash);
    EXPECT_EQ(to_hex(line.value().secret.view()), to_hex(sample().secret.view()));
    EXPECT_EQ(line.value().expires_s, 1'800'000'000);
    EXPECT_EQ(line.value().name, "gpu07");
    EXPECT_EQ(line.value().addresses, sample().addresses);
  }
}

TEST(JoinLine, EverySlipIsNoticed) {
  const std::string text = encode_join_line(sample());
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(parse_join_line(changed)) << "character " << i;
    changed = text;
    changed.erase(i, 1);
    EXPECT_FALSE(parse_join_line(changed)) << "without character " << i;
    EXPECT_FALSE(parse_join_line(text.substr(0, i))) << "cut after " << i;
    if (i + 1 < text.size() && text[i] != text[i + 1]) {
      changed = text;
      std::swap(changed[i], changed[i + 1]);
      EXPECT_FALSE(parse_join_line(changed)) << "character " << i << " swapped";
    }
  }
  EXPECT_FALSE(parse_join_line(text + "A"));
  EXPECT_FALSE(parse_join_line(text + text));
  EXPECT_FALSE(parse_join_line(std::string(kJoinLineBytesMax + 1, 'A')));
  const auto newer = parse_join_line("datacloud-join-2.AAAA");
  ASSERT_FALSE(newer);
  EXPECT_TRUE(newer.error().is(Errc::unsupported));
}

TEST(JoinLine, ErrorsNeverShowTheSecret) {
  std::string text = encode_join_line(sample());
  text[70] = text[70] == 'A' ? 'B' : 'A';
  const auto line = parse_join_line(text);
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().text().find(text.substr(60, 12)), std::string::npos);
}

TEST(JoinLine, OnlyTheLineOpensTheBundle) {
  const SecretKey secret = SecretKey::random(), other = SecretKey::random();
  const Bytes bundle = to_bytes(as_bytes("the data key and more"));
  const Bytes sealed = seal_bundle(secret, "gpu07", bundle);
  const auto opened = open_bundle(secret, "gpu07", sealed);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened.value(), bundle);
  EXPECT_FALSE(open_bundle(other, "gpu07", sealed));
  EXPECT_FALSE(open_bundle(secret, "gpu08", sealed)) << "moved to another node's record";
  for (size_t i = 0; i < sealed.size(); ++i) {
    Bytes changed = sealed;
    changed[i] ^= 1;
    EXPECT_FALSE(open_bundle(secret, "gpu07", changed)) << "byte " << i;
    EXPECT_FALSE(open_bundle(secret, "gpu07", ByteView(sealed).first(i)));
  }
  EXPECT_NE(seal_bundle(secret, "gpu07", bundle), sealed) << "nonces are random";
}

TEST(JoinLine, TheIdentityTellsNothingOfTheSeal) {
  const SecretKey secret = SecretKey::random();
  EXPECT_EQ(invitation_key(secret).hash(), invitation_key(secret).hash());
  EXPECT_NE(invitation_key(secret).hash(), invitation_key(SecretKey::random()).hash());
  EXPECT_NE(invitation_key(secret).hash(), NodeKey::from_seed(secret).hash());
}

}  // namespace
}  // namespace datacloud
