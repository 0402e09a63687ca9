// The sampler's raw stream on standard output: words 0, 1, 2, ... of a key, 32 bits each.
// Built by run.sh. The argument is the key; with "keys", block 0 of keys 0, 1, 2, ... instead.
#include "math/philox.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace initfast::generic;

int main(int argc, char** argv) {
  const bool across_keys = argc > 1 && std::strcmp(argv[1], "keys") == 0;
  const uint64_t key = argc > 1 && !across_keys ? std::strtoull(argv[1], nullptr, 0) : 0;
  static uint64_t words[2 * 4096];
  uint64_t place = 0;
  const PhiloxKeys<uint64_t> keys(key);
  for (;;) {
    for (int i = 0; i < 4096; ++i, ++place) {
      const uint64_t low[1] = {across_keys ? 0 : place};
      uint64_t front[1], back[1];
      philox<1>(across_keys ? PhiloxKeys<uint64_t>(place) : keys, low, low[0] >> 32, front, back);
      words[2 * i] = front[0];
      words[2 * i + 1] = back[0];
    }
    if (std::fwrite(words, sizeof words, 1, stdout) != 1) return 0;
  }
}
