// Reports of third-party auditors: JSON, signed with the auditor's own key.
//
//   {"auditor": HEX, "report": {...}, "signature": HEX}
//
// The Ed25519 signature is over "datacloud audit report 1\n" and the report as compact ASCII JSON
// with sorted keys. Numbers in it are whole, so that this text is the same whoever writes it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "common/base/error.h"
#include "common/crypto/signing.h"

namespace datacloud {

using ReportJson = nlohmann::json;  // sorts its keys

struct SignedReport {
  ReportJson report;
  std::string auditor;  // public key, hex
};

// The auditor's key: made in a file of mode 0600 when there is none. invalid: readable by others,
// or damaged.
result<SigningKey> load_auditor_key(const std::filesystem::path&);

std::string sign_report(const ReportJson&, const SigningKey&);
// corrupt: no report, or not what its auditor has signed.
result<SignedReport> verify_report(const std::string& text);

// A file's text, at most `bytes_max`.
result<std::string> read_text_file(const std::filesystem::path&, size_t bytes_max);
// Replaces or makes the file, whole or not at all.
result<void> write_text_file(const std::filesystem::path&, const std::string& text);
inline constexpr size_t kReportBytesMax = 64u << 20;

}  // namespace datacloud
