// Which value makes a pixel bad in one frame only: the twin of kernels/bad_pixels.hpp, put in front of the kernels that
// see pixels in their own type.
//
// Defines:   PIXEL         uchar, ushort, uint, char, short, int or float
//            PIXEL_BYTES   its size
//            KIND          0 unsigned, 1 signed, 2 floating point
//            TYPE_MAXIMUM  bad value of an unsigned type, a float64 literal; absent = no such rule
//            NEGATIVE      1: values below 0 are bad
//            DUMMY         1: values within delta_dummy of dummy are bad

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF

bool is_bad(PIXEL value, double dummy, double delta_dummy) {
  bool bad = false;
#if KIND == 2
  bad = !isfinite(value);
#endif
#ifdef TYPE_MAXIMUM
  bad = bad || value == (PIXEL)TYPE_MAXIMUM;
#endif
#if NEGATIVE
  bad = bad || value < 0;
#endif
#if DUMMY
  bad = bad || fabs((double)value - dummy) <= delta_dummy;
#endif
  return bad;
}

