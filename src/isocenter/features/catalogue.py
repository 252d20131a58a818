"""What each IBSI feature is called, here and in the standard's tables, its identifier and its unit.

Source: IBSI reference manual, arXiv:1612.07003v11 (names and identifiers); the tags are those of the
initiative's tables of reference values.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

Family = Literal[
    "morphology", "local_intensity", "statistics", "histogram", "ivh", "glcm", "glrlm", "glszm", "gldzm", "ngtdm",
    "ngldm",
]  # fmt: skip
"""Families of IBSI 1; `ivh` is the intensity-volume histogram."""

Beyond = Literal["region", "shape_2d", "local_binary_patterns", "oriented_gradients", "fractal", "colour"]
"""Families beyond the standard."""

Aggregation = Literal[
    "2D", "2D_avg", "2D_comb", "2_5D", "2_5D_avg", "2_5D_comb", "3D", "3D_avg", "3D_comb", "none"
]  # fmt: skip
"""How slices and directions are joined; `none` where there are none to join."""

CODES: dict[str, str] = {
    "morphology": "HCUG", "local_intensity": "9ST6", "statistics": "UHIW", "histogram": "ZVCW", "ivh": "P88C",
    "glcm": "LFYI", "glrlm": "TP0I", "glszm": "9SAK", "gldzm": "VMDZ", "ngtdm": "IPET", "ngldm": "REK0",
}  # fmt: skip
"""The standard's identifier of each family."""


@dataclass(frozen=True)
class Known:
    """One feature of the standard.

    Args:
        family: which family it belongs to.
        name: here.
        tag: in the tables of reference values.
        ibsi: identifier.
        unit: UCUM, where `I` stands for the intensity's own unit and `[level]` for grey levels.
    """

    family: Family
    name: str
    tag: str
    ibsi: str
    unit: str

    @property
    def definition(self) -> str:
        """The identifier as a feature states it."""
        return f"IBSI:{self.ibsi}"


_TABLE = """
morphology      volume                               morph_volume             RNU0 mm3
morphology      approximate_volume                   morph_vol_approx         YEKZ mm3
morphology      surface_area                         morph_area_mesh          C0JK mm2
morphology      surface_to_volume_ratio              morph_av                 2PR5 /mm
morphology      compactness_1                        morph_comp_1             SKGS 1
morphology      compactness_2                        morph_comp_2             BQWJ 1
morphology      spherical_disproportion              morph_sph_dispr          KRCK 1
morphology      sphericity                           morph_sphericity         QCFX 1
morphology      asphericity                          morph_asphericity        25C7 1
morphology      centre_of_mass_shift                 morph_com                KLMA mm
morphology      maximum_3d_diameter                  morph_diam               L0JK mm
morphology      major_axis_length                    morph_pca_maj_axis       TDIC mm
morphology      minor_axis_length                    morph_pca_min_axis       P9VJ mm
morphology      least_axis_length                    morph_pca_least_axis     7J51 mm
morphology      elongation                           morph_pca_elongation     Q3CK 1
morphology      flatness                             morph_pca_flatness       N17B 1
morphology      bounding_box_volume_density          morph_vol_dens_aabb      PBX1 1
morphology      bounding_box_area_density            morph_area_dens_aabb     R59B 1
morphology      oriented_box_volume_density          morph_vol_dens_ombb      ZH1A 1
morphology      oriented_box_area_density            morph_area_dens_ombb     IQYR 1
morphology      ellipsoid_volume_density             morph_vol_dens_aee       6BDE 1
morphology      ellipsoid_area_density               morph_area_dens_aee      RDD2 1
morphology      enclosing_ellipsoid_volume_density   morph_vol_dens_mvee      SWZ1 1
morphology      enclosing_ellipsoid_area_density     morph_area_dens_mvee     BRI8 1
morphology      hull_volume_density                  morph_vol_dens_conv_hull R3ER 1
morphology      hull_area_density                    morph_area_dens_conv_hull 7T7F 1
morphology      integrated_intensity                 morph_integ_int          99N0 I.mm3
morphology      moran_i                              morph_moran_i            N365 1
morphology      geary_c                              morph_geary_c            NPT7 1
local_intensity local_peak                           loc_peak_loc             VJGA I
local_intensity global_peak                          loc_peak_glob            0F91 I
statistics      mean                                 stat_mean                Q4LE I
statistics      variance                             stat_var                 ECT3 I2
statistics      skewness                             stat_skew                KE2A 1
statistics      excess_kurtosis                      stat_kurt                IPH6 1
statistics      median                               stat_median              Y12H I
statistics      minimum                              stat_min                 1GSF I
statistics      percentile_10                        stat_p10                 QG58 I
statistics      percentile_90                        stat_p90                 8DWT I
statistics      maximum                              stat_max                 84IY I
statistics      interquartile_range                  stat_iqr                 SALO I
statistics      range                                stat_range               2OJQ I
statistics      mean_absolute_deviation              stat_mad                 4FUA I
statistics      robust_mean_absolute_deviation       stat_rmad                1128 I
statistics      median_absolute_deviation            stat_medad               N72L I
statistics      coefficient_of_variation             stat_cov                 7TET 1
statistics      quartile_coefficient_of_dispersion   stat_qcod                9S40 1
statistics      energy                               stat_energy              N8CA I2
statistics      root_mean_square                     stat_rms                 5ZWQ I
histogram       mean                                 ih_mean                  X6K6 [level]
histogram       variance                             ih_var                   CH89 [level]2
histogram       skewness                             ih_skew                  88K1 1
histogram       excess_kurtosis                      ih_kurt                  C3I7 1
histogram       median                               ih_median                WIFQ [level]
histogram       minimum                              ih_min                   1PR8 [level]
histogram       percentile_10                        ih_p10                   GPMT [level]
histogram       percentile_90                        ih_p90                   OZ0C [level]
histogram       maximum                              ih_max                   3NCY [level]
histogram       mode                                 ih_mode                  AMMC [level]
histogram       interquartile_range                  ih_iqr                   WR0O [level]
histogram       range                                ih_range                 5Z3W [level]
histogram       mean_absolute_deviation              ih_mad                   D2ZX [level]
histogram       robust_mean_absolute_deviation       ih_rmad                  WRZB [level]
histogram       median_absolute_deviation            ih_medad                 4RNL [level]
histogram       coefficient_of_variation             ih_cov                   CWYJ 1
histogram       quartile_coefficient_of_dispersion   ih_qcod                  SLWD 1
histogram       entropy                              ih_entropy               TLU2 1
histogram       uniformity                           ih_uniformity            BJ5W 1
histogram       maximum_gradient                     ih_max_grad              12CE 1
histogram       maximum_gradient_level               ih_max_grad_g            8E6O [level]
histogram       minimum_gradient                     ih_min_grad              VQB3 1
histogram       minimum_gradient_level               ih_min_grad_g            RHQZ [level]
ivh             volume_at_intensity_10               ivh_v10                  BC2M 1
ivh             volume_at_intensity_90               ivh_v90                  BC2M 1
ivh             intensity_at_volume_10               ivh_i10                  GBPN I
ivh             intensity_at_volume_90               ivh_i90                  GBPN I
ivh             volume_difference_10_90              ivh_diff_v10_v90         DDTU 1
ivh             intensity_difference_10_90           ivh_diff_i10_i90         CNV2 I
ivh             area_under_curve                     ivh_auc                  9CMM 1
glcm            joint_maximum                        cm_joint_max             GYBY 1
glcm            joint_average                        cm_joint_avg             60VM [level]
glcm            joint_variance                       cm_joint_var             UR99 [level]2
glcm            joint_entropy                        cm_joint_entr            TU9B 1
glcm            difference_average                   cm_diff_avg              TF7R [level]
glcm            difference_variance                  cm_diff_var              D3YU [level]2
glcm            difference_entropy                   cm_diff_entr             NTRS 1
glcm            sum_average                          cm_sum_avg               ZGXS [level]
glcm            sum_variance                         cm_sum_var               OEEB [level]2
glcm            sum_entropy                          cm_sum_entr              P6QZ 1
glcm            angular_second_moment                cm_energy                8ZQL 1
glcm            contrast                             cm_contrast              ACUI [level]2
glcm            dissimilarity                        cm_dissimilarity         8S9J [level]
glcm            inverse_difference                   cm_inv_diff              IB1Z 1
glcm            normalised_inverse_difference        cm_inv_diff_norm         NDRX 1
glcm            inverse_difference_moment            cm_inv_diff_mom          WF0Z 1
glcm            normalised_inverse_difference_moment cm_inv_diff_mom_norm     1QCO 1
glcm            inverse_variance                     cm_inv_var               E8JP 1
glcm            correlation                          cm_corr                  NI2N 1
glcm            autocorrelation                      cm_auto_corr             QWB0 [level]2
glcm            cluster_tendency                     cm_clust_tend            DG8W [level]2
glcm            cluster_shade                        cm_clust_shade           7NFM [level]3
glcm            cluster_prominence                   cm_clust_prom            AE86 [level]4
glcm            first_information_correlation        cm_info_corr1            R8DG 1
glcm            second_information_correlation       cm_info_corr2            JN9H 1
ngtdm           coarseness                           ngt_coarseness           QCDE 1
ngtdm           contrast                             ngt_contrast             65HE 1
ngtdm           busyness                             ngt_busyness             NQ30 1
ngtdm           complexity                           ngt_complexity           HDEZ 1
ngtdm           strength                             ngt_strength             1X9X 1
"""

# Four matrices of grey level against something, with the same features under names of their own:
# stem, the words for short and long, the word for its extent, and the tag's letters for each.
_EMPHASES = {
    "glrlm": ("rlm", "short_run", "long_run", "run_length", "run", ("sre", "lre", "lgre", "hgre", "srlge", "srhge", "lrlge", "lrhge", "glnu", "glnu_norm", "rlnu", "rlnu_norm", "r_perc", "gl_var", "rl_var", "rl_entr"), ("22OV", "W4KF", "V3SW", "G3QZ", "HTZT", "GD3A", "IVPO", "3KUM", "R5YN", "OVBL", "W92Y", "IC23", "9ZK5", "8CE5", "SXLW", "HJ9O")),
    "glszm": ("szm", "small_zone", "large_zone", "zone_size", "zone", ("sze", "lze", "lgze", "hgze", "szlge", "szhge", "lzlge", "lzhge", "glnu", "glnu_norm", "zsnu", "zsnu_norm", "z_perc", "gl_var", "zs_var", "zs_entr"), ("5QRC", "48P8", "XMSY", "5GN9", "5RAI", "HW1V", "YH51", "J17V", "JNSA", "Y1RO", "4JP3", "VB3A", "P30P", "BYLV", "3NSA", "GU8N")),
    "gldzm": ("dzm", "small_distance", "large_distance", "zone_distance", "zone", ("sde", "lde", "lgze", "hgze", "sdlge", "sdhge", "ldlge", "ldhge", "glnu", "glnu_norm", "zdnu", "zdnu_norm", "z_perc", "gl_var", "zd_var", "zd_entr"), ("0GBI", "MB4I", "S1RA", "K26C", "RUVG", "DKNJ", "A7WM", "KLTH", "VFT7", "7HP3", "V294", "IATH", "VIWW", "QK93", "7WT1", "GBDU")),
    "ngldm": ("ngl", "low_dependence", "high_dependence", "dependence_count", "dependence", ("lde", "hde", "lgce", "hgce", "ldlge", "ldhge", "hdlge", "hdhge", "glnu", "glnu_norm", "dcnu", "dcnu_norm", "dc_perc", "gl_var", "dc_var", "dc_entr", "dc_energy"), ("SODN", "IMOQ", "TL9H", "OAE7", "EQ3F", "JA6D", "NBZI", "9QMG", "FP8K", "5SPA", "Z87G", "OKJI", "6XV8", "1PFV", "DNX2", "FCBV", "CAS9")),
}  # fmt: skip


def _emphases(family: Family) -> list[Known]:
    stem, short, long, extent, word, tags, codes = _EMPHASES[family]
    grey = "grey_level_count" if family == "ngldm" else f"grey_level_{word}"
    names = [
        f"{short}_emphasis", f"{long}_emphasis", f"low_{grey}_emphasis", f"high_{grey}_emphasis",
        f"{short}_low_grey_level_emphasis", f"{short}_high_grey_level_emphasis", f"{long}_low_grey_level_emphasis",
        f"{long}_high_grey_level_emphasis", "grey_level_non_uniformity", "normalised_grey_level_non_uniformity",
        f"{extent}_non_uniformity", f"normalised_{extent}_non_uniformity", f"{word}_percentage",
        "grey_level_variance", f"{extent}_variance", f"{extent}_entropy", f"{extent}_energy",
    ]  # fmt: skip
    units = dict.fromkeys(names, "1") | {"grey_level_variance": "[level]2"}
    return [
        Known(family, name, f"{stem}_{tag}", code, units[name])
        for name, tag, code in zip(names, tags, codes, strict=False)  # only NGLDM has an energy
    ]


@cache
def catalogue() -> dict[tuple[str, str], Known]:
    """Every feature by family and name, in the standard's order of families."""
    rows = [Known(*line.split()) for line in _TABLE.split("\n") if line]  # type: ignore[arg-type]
    by_family = {family: [row for row in rows if row.family == family] for family in CODES}
    for family in ("glrlm", "glszm", "gldzm", "ngldm"):
        by_family[family] = _emphases(family)
    return {(row.family, row.name): row for family in CODES for row in by_family[family]}


@cache
def names_of(family: str) -> tuple[str, ...]:
    """Names of a family's features, in the order in which they are computed."""
    return tuple(row.name for row in catalogue().values() if row.family == family)
