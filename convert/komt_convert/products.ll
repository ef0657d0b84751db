; rows += left . tiles, row by row of a matrix of which each row has row_length values, for its first
; n_tiles * tile_length columns. A tile holds rank rows of tile_length values; left holds rank values
; for each row. None of the numbers is zero, and tile_length is a multiple of 64.
;
; Sixty-four columns are summed at once, in as many registers as the processor needs for that. Without
; fast-math flags LLVM neither reorders operations nor fuses them:
; https://llvm.org/docs/LangRef.html#fast-math-flags

define void @add(ptr %rows, i64 %n_rows, i64 %row_length, ptr %left, i64 %rank,
                 ptr %tiles, i64 %n_tiles, i64 %tile_length) {
entry:
  %tile_size = mul i64 %rank, %tile_length
  br label %tile_begins

tile_begins:
  %tile = phi i64 [0, %entry], [%next_tile, %tile_ends]
  %tile_at = mul i64 %tile, %tile_size
  %tile_p = getelementptr float, ptr %tiles, i64 %tile_at
  %column = mul i64 %tile, %tile_length
  %column_p = getelementptr float, ptr %rows, i64 %column
  br label %row_begins

row_begins:
  %row = phi i64 [0, %tile_begins], [%next_row, %row_ends]
  %row_at = mul i64 %row, %row_length
  %row_p = getelementptr float, ptr %column_p, i64 %row_at
  %left_at = mul i64 %row, %rank
  %left_p = getelementptr float, ptr %left, i64 %left_at
  br label %strip_begins

strip_begins:
  %strip = phi i64 [0, %row_begins], [%next_strip, %strip_ends]
  %strip_p = getelementptr float, ptr %tile_p, i64 %strip
  br label %product

product:
  %k = phi i64 [0, %strip_begins], [%next_k, %product]
  %sums = phi <64 x float> [zeroinitializer, %strip_begins], [%next_sums, %product]
  %factor_p = getelementptr float, ptr %left_p, i64 %k
  %factor = load float, ptr %factor_p
  %first = insertelement <64 x float> poison, float %factor, i64 0
  %factors = shufflevector <64 x float> %first, <64 x float> poison, <64 x i32> zeroinitializer
  %values_at = mul i64 %k, %tile_length
  %values_p = getelementptr float, ptr %strip_p, i64 %values_at
  %values = load <64 x float>, ptr %values_p, align 4
  %products = fmul <64 x float> %factors, %values
  %next_sums = fadd <64 x float> %sums, %products
  %next_k = add i64 %k, 1
  %is_product = icmp ult i64 %next_k, %rank
  br i1 %is_product, label %product, label %strip_ends

strip_ends:
  %target_p = getelementptr float, ptr %row_p, i64 %strip
  %target = load <64 x float>, ptr %target_p, align 4
  %total = fadd <64 x float> %target, %next_sums
  store <64 x float> %total, ptr %target_p, align 4
  %next_strip = add i64 %strip, 64
  %is_strip = icmp ult i64 %next_strip, %tile_length
  br i1 %is_strip, label %strip_begins, label %row_ends

row_ends:
  %next_row = add i64 %row, 1
  %is_row = icmp ult i64 %next_row, %n_rows
  br i1 %is_row, label %row_begins, label %tile_ends

tile_ends:
  %next_tile = add i64 %tile, 1
  %is_tile = icmp ult i64 %next_tile, %n_tiles
  br i1 %is_tile, label %tile_begins, label %end

end:
  ret void
}
