// From seeds to blocks and coefficients: AES-256 under the seed over numbered blocks.
#include "common/tags/audit_challenge.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace datacloud {
namespace {

enum class Stream : uint64_t { coefficients = 1, samples = 2 };

// AES-256(seed, number u64 LE | stream u64 LE) for `count` numbers from `first`.
Bytes stream_blocks(const AuditChallenge& challenge, Stream stream, uint64_t first, size_t count) {
  Bytes blocks(count * kFieldBytes);
  for (size_t i = 0; i < count; ++i) {
    for (size_t b = 0; b < 8; ++b) {
      blocks[i * kFieldBytes + b] = static_cast<uint8_t>((first + i) >> (8 * b));
    }
    blocks[i * kFieldBytes + 8] = static_cast<uint8_t>(stream);
  }
  std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                          EVP_CIPHER_CTX_free);
  int length = 0;
  const auto* algorithm = EVP_aes_256_ecb();
  if (!context ||
      EVP_EncryptInit_ex(context.get(), algorithm, nullptr, challenge.seed.data(), nullptr) != 1 ||
      EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1 ||
      EVP_EncryptUpdate(context.get(), blocks.data(), &length, blocks.data(),
                        static_cast<int>(blocks.size())) != 1) {
    std::abort();  // no memory, or a libcrypto without AES: nothing works
  }
  return blocks;
}

// Uniform numbers from the sample stream.
class SampleStream {
 public:
  explicit SampleStream(const AuditChallenge& challenge) : challenge_(challenge) {}

  // 0 <= result < n, by rejection of the words beyond the last multiple of n.
  uint64_t below(uint64_t n) {
    const uint64_t excess = (UINT64_MAX % n + 1) % n;
    while (true) {
      const uint64_t word = next();
      if (word <= UINT64_MAX - excess) return word % n;
    }
  }

 private:
  static constexpr size_t kBlocks = 64;

  uint64_t next() {
    if (at_ == words_.size()) {
      words_ = stream_blocks(challenge_, Stream::samples, next_block_, kBlocks);
      next_block_ += kBlocks;
      at_ = 0;
    }
    uint64_t word = 0;
    for (size_t b = 0; b < 8; ++b) word |= uint64_t{words_[at_ + b]} << (8 * b);
    at_ += 8;
    return word;
  }

  const AuditChallenge& challenge_;
  Bytes words_;
  size_t at_ = 0;
  uint64_t next_block_ = 0;
};

}  // namespace

std::vector<BlockRun> challenged_blocks(const AuditChallenge& challenge, uint64_t blocks_held) {
  const uint64_t total = std::min(challenge.blocks_total, kAuditBlocksMax);
  const uint64_t held = std::min(blocks_held, total);
  if (held == 0) return {};
  if (challenge.samples == 0 || challenge.samples >= total) return {{0, held}};
  // Floyd's sampling: one draw for each sample.
  std::vector<bool> chosen(total);
  SampleStream stream(challenge);
  for (uint64_t last = total - challenge.samples; last < total; ++last) {
    const uint64_t drawn = stream.below(last + 1);
    chosen[chosen[drawn] ? last : drawn] = true;
  }
  std::vector<BlockRun> runs;
  for (uint64_t i = 0; i < held; ++i) {
    if (!chosen[i]) continue;
    if (!runs.empty() && runs.back().first + runs.back().count == i) {
      ++runs.back().count;
    } else {
      runs.push_back({i, 1});
    }
  }
  return runs;
}

std::vector<FieldElement> challenge_coefficients(const AuditChallenge& challenge, BlockRun run) {
  const Bytes blocks = stream_blocks(challenge, Stream::coefficients, run.first, run.count);
  std::vector<FieldElement> coefficients;
  coefficients.reserve(run.count);
  for (size_t i = 0; i < run.count; ++i) {
    coefficients.push_back(field_element(ByteView(blocks).subspan(i * kFieldBytes)));
  }
  return coefficients;
}

void AuditResponse::add(BlockRun run, ByteView bytes, ByteView tags) {
  constexpr uint64_t kTogether = 64;
  while (run.count > 0) {
    const BlockRun part{run.first, std::min(run.count, kTogether)};
    std::vector<ByteView> blocks, block_tags;
    for (uint64_t i = 0; i < part.count; ++i) {
      blocks.push_back(bytes.first(std::min(bytes.size(), kAuditBlockBytes)));
      block_tags.push_back(tags.first(std::min(tags.size(), kFieldBytes)));
      bytes = bytes.subspan(blocks.back().size());
      tags = tags.subspan(block_tags.back().size());
    }
    const auto weights = challenge_coefficients(challenge_, part);
    mu_.add(weights, blocks);
    tag_.add(weights, block_tags);
    run = {run.first + part.count, run.count - part.count};
  }
}

}  // namespace datacloud
