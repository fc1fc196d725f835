// Addresses of daemons, as people write them.
#include "common/net/address.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

TEST(Address, TlsAddressesAreReadAndWritten) {
  for (const char* text : {"tls://10.0.0.1:7411", "tls://daemon.example.org:1", "tls://[::1]:65535",
                           "tls://[fe80::1%eth0]:7411", "tls://a-b_c:80"}) {
    const auto address = parse_tls_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_text(address.value()), text);
  }
  EXPECT_EQ(parse_tls_address("tls://[::1]:65535").value().host, "::1");
  EXPECT_EQ(parse_tls_address("tls://h:7").value().port, 7);
  EXPECT_TRUE(is_wildcard(parse_tls_address("tls://0.0.0.0:1").value()));
  EXPECT_TRUE(is_wildcard(parse_tls_address("tls://[::]:1").value()));
  EXPECT_FALSE(is_wildcard(parse_tls_address("tls://127.0.0.1:1").value()));
}

TEST(Address, WhatIsNoneIsRefusedWithTheForm) {
  for (const std::string& text :
       {std::string("unix:/a"), std::string("tls://"), std::string("tls://:7"),
        std::string("tls://h"), std::string("tls://h:"), std::string("tls://h:0"),
        std::string("tls://h:65536"), std::string("tls://h:99999999999999999999"),
        std::string("tls://h:7/x"), std::string("tls://::1:7"), std::string("tls://[::1:7"),
        std::string("tls://h h:7"), std::string("tls://h\n:7"),
        "tls://" + std::string(254, 'h') + ":7", std::string("tls://[::1]7")}) {
    const auto address = parse_tls_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_TRUE(address.error().is(Errc::invalid));
    EXPECT_NE(address.error().text().find("tls://HOST:PORT"), std::string::npos);
  }
}

}  // namespace
}  // namespace datacloud
