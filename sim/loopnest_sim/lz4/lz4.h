// What Verilator's FST writer needs of the LZ4 library, so that waves need no library but zlib: a
// compressor into LZ4's block format (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

// Compress `size` bytes; return the compressed size, or 0 where they do not fit into `capacity`.
inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    constexpr int kMinMatch = 4, kMaxOffset = 65535, kHashBits = 12;
    constexpr int kLastLiterals = 5;  // a block ends with literals, at least so many
    constexpr int kMatchLimit = 12;   // and no match begins in its last bytes
    if (capacity < LZ4_compressBound(size)) return 0;  // so nothing below can run over the end
    char* out = target;
    const auto length = [&out](int rest) {  // what a nibble of 15 leaves over
        for (; rest >= 255; rest -= 255) *out++ = static_cast<char>(255);
        *out++ = static_cast<char>(rest);
    };
    // `literals` bytes from `from`, then a match; without one (0) the sequence is the block's last
    const auto sequence = [&](int from, int literals, int offset, int match) {
        const int more = match ? match - kMinMatch : 0;
        *out++ = static_cast<char>(std::min(literals, 15) << 4 | std::min(more, 15));
        if (literals >= 15) length(literals - 15);
        std::copy_n(source + from, literals, out);
        out += literals;
        if (!match) return;
        *out++ = static_cast<char>(offset & 255);
        *out++ = static_cast<char>(offset >> 8);
        if (more >= 15) length(more - 15);
    };
    std::vector<int> latest(1 << kHashBits, -1);  // where four bytes of this hash were seen last
    int at = 0, written = 0;
    while (at < size - kMatchLimit) {
        uint32_t word;
        memcpy(&word, source + at, kMinMatch);
        int& seen = latest[word * 2654435761u >> (32 - kHashBits)];
        const int before = seen;
        seen = at;
        if (before < 0 || at - before > kMaxOffset ||
            memcmp(source + before, source + at, kMinMatch)) {
            at += 1 + ((at - written) >> 6);  // faster where nothing matches
            continue;
        }
        int match = kMinMatch;
        while (at + match < size - kLastLiterals && source[before + match] == source[at + match])
            ++match;
        sequence(written, at - written, at - before, match);
        written = at += match;
    }
    sequence(written, size - written, 0, 0);
    return static_cast<int>(out - target);
}
