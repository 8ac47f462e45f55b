"""Drawings of the Open Clip Art Library, by a hundred hands.

They show the model that a thing has the same name whoever drew it. All of them are for training.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from edge_et.errors import AssetError
from edge_et.tuning.mini.assets.cropped import open_cropped
from edge_et.tuning.mini.assets.debian import DebianPackage, unpack

OPEN_CLIP_ART = DebianPackage(
    name="openclipart-png",
    path="pool/main/o/openclipart/openclipart-png_0.18+dfsg-19_all.deb",
    license="public domain",
    sha256="f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
)

_FOLDER = "usr/share/openclipart/png"
_PIXELS = 192

# A thing, then the file names of its drawings; what does not fit the line goes on in the next.
_DRAWINGS = """
dog: beagle_copper_ganson black_lab_ganson bobi_architetto_francesc_01 bored_dog_01
  dog_head_nicu_buculei_01 dog_head_nicu_buculei_02 dog_01_drawn_with_strai_01
  dog_02_drawn_with_strai_01 dog_03_drawn_with_strai_01 dog_04_drawn_with_strai_01
  dog_05_drawn_with_strai_01 dog_06_drawn_with_strai_01 dog_on_leash_gerald_g._01
cat: gattina_cat_architetto_f_01 gatto_cat_architetto_fra_01 gatto_cat_architetto_fra_02
  gatto_cat_architetto_fra_03 gatto_cat_architetto_fra_04 kitten_gerald_g._01
  sleeping_cat_rgolan_sup_r cartoon_cat_gerald_g._01 cartoon_cat_gerald_g._02
horse: cavallo_architetto_franc_01 cavallo_architetto_franc_02 cavallo_architetto_franc_03
  cavallo_architetto_franc_04 cavallo_architetto_franc_05 cavallo_architetto_franc_06
  cavallo_architetto_franc_07 horse_1_konstantin_r._01
cow: mhooo_peterm_ vacca_pezzata_rossa_val_01 mucca bull_utrescu_
pig: a_simple_pig_01 pig_marcelo_caiafa1 porcinet_01
sheep: pecora_architetto_france_01 sheep-md-v0.1 shaezy_peterm_ pecorella dall_sheep_ram_ganson
goat: goat_nicu_buculei_01
rabbit: coniglio_architetto_fran_01
mouse: topo_architetto_francesc_01
bear: bear_peterm_01 orso_architetto_francesc_01 orso_architetto_francesc_02
  orso_architetto_francesc_03 orso_architetto_francesc_04 ours_etienne_bersac_r
lion: leone_01_architetto_fran_01 leone_02_architetto_fran_01 leone_architetto_frances_01
tiger: b_w_tiger_susan_park_01 color_tiger_susan_park_01 tiger_graig_ryan_smith_-_01
  tigre01_architetto_franc_01 tigre02_architetto_franc_01 tigre03_architetto_franc_01
  tigre04_architetto_franc_01 tigre05_architetto_franc_01
leopard: contour_cheetah
elephant: contour_elephant elefante01_architetto_fr_01 elefante02_architetto_fr_01 elephant_01
  elephant_outline_matthe_r elephant_symbol_ganson elefantone elefante_in_corsa
giraffe: contour_giraffe
camel: camel_head_01 contour_camel cammello
kangaroo: canguro_architetto_franc_01 contour_kangaroo
monkey: angry_monkey_benji_park_01 crazy_monkey_shandy_brow_01 happy_monkey_benji_park_01
  monkey_head_nicu_buculei_01 sailor_monkey_nicu_bucul_01
fox: contour_fox
wolf: simple_stylized_wolf_he_01 stylized_wolf_head_geral_01
frog: rana01_architetto_france_01 rana02_architetto_france_01 rana03_architetto_france_01
  rana_architetto_francesc_01 red-eye_frog_mirko_maisc_01
turtle: turtle_jurgen_gaeremyn_01
fish: altum_angelfish_01 arctic_greyling_ganson bofish_massimo_aiello_r brown_fish_01
  clown_loach_01 giraffe_cichlid_01 pescetto_arancione_archi_01 yellow_gourami_01 pescetto
whale: bluewhale-md orca_matthew_gates_r
dolphin: dolphin dolphin_enrique_meza_c_01 dolphin_enrique_meza_c_02
snail: lumaca_architetto_france_01 lumaca_turbo_architetto__01
butterfly: butterfly_from_star_thom_01 butterfly_jonathan_dietr_01 butterfly_jonvdveen_01
  farfalla_butterfly_fra1 farfalla_contorno_archit_01 farfalla_semplice_archit_01
  farfalla_stilizzata_arch_01
bee: abeille_tanguy_jacq_01 bee bee1_mimooh_01 bee2_mimooh_01 bee3_mimooh_01
spider: ragnetto_incazzato_archi_01 spider
ladybug: coccinella_architetto_fr_01 coccinella_rollandin_arc_01 coccinelle_tanguy_jacq_01
  coccinellona_architetto__01 ladybug_01 ladybug_02
bird: crow_01 gabbiano_architetto_fran_01 gull_marcelo_staudt_01 seagull_contour_nicu_buc_01
  seagull_nicu_buculei_01 uccello_bianco_e_nero_ar_01 uccello_profilo_01_archi_01
  uccello_profilo_02_archi_01 gabbiano_piccolo Colombo colombo2 pennuto01 pennuto02 cormorant-md
chicken: gallo_di_profilo_archite_01 hen_01 rooster_01
duck: rubber_duck1_ganson rubber_duck2_ganson Anatra
penguin: emperor_penguin_ralf_ste_01 new_penguin_charles_mcco_01 pinguino_col_piccolo_arc_01
  Pinguino1 Pinguino2 Pinguino3 Pinguino4 plush_tux_anita_01
owl: gufo_civetta_architetto__01 owl_on_branch_ganson
flamingo: flamand_bw_jean-victor_b_01 flamand_jean-victor_bali_01
swan: cigno_architetto_frances_01 cigno_di_spalle_architet_01
squirrel: cartoon_squirrel_mike_sm1 contour_chipmunk
deer: deer_matt_todd_01
rhinoceros: rhinoceros_3d_architetto_01
bat: bat_orlando_karam_ contour_bat
eagle: acquila_architetto_franc_01 acquila_architetto_franc_02 acquila_architetto_franc_03
  acquila_architetto_franc_04 aquila_frontale_architet_01 eagle_01
turkey: tacchino_architetto_fran_01
lizard: az-lizard_benji_park_01 lizard_guillaume_boitel_ lucertola_architetto_fra_01
  lucertola_arrotolata_arc_01 lucertola_maya_architett_01 lucertolona_architetto_f_01
  lucertolone_architetto_f_01 ramarro_architetto_franc_01
lobster: crawfish1_bw_ganson crawfish1_ganson crawfish2_bw_ganson crawfish2_ganson
scorpion: scorpion-md-v0.1
ant: ant formichina_architetto_fr_01 formicona_architetto_fra_01
apple: an_apple_01 another_apple_01 apple apple_bw apple_martin_schmidt-li_01r applf
  cartoon_apple_k_yager_01
orange: orange orange_dave_pena_01 orange_simple orange_simple_bw orange_slice_jonathan_di_01
  rondelle_d_orange_01 rondelle_orange_01
banana: banana bananas_nicu_buculei_01
lemon: lemon lemon1 lemon_simple lemon_simple_bw lemon_whole_ganson lemon_half_ganson
pear: green_pear_01 pear pear_01 pear_02 pear_simple pear_simple_bw pera_architetto_francesc_01
peach: peach_simple peach_simple_bw pesca_architetto_frances_01
cherry: cherries cherry_jean_victor_balin_ cherry_jonathan_dietrich_01
strawberry: strawberry strawberry_01 strawberry_jonathan_diet_01 strawberry_simple
  strawberry_simple_bw
grapes: grape_01 grapes_01 grapes_simple grapes_simple_bw
watermelon: pasteque_01 watermelon_james_kilfige_01 watermelon_simple watermelon_simple_bw
pineapple: pineapple
tomato: pomodori_architetto_fran_01
carrot: what_s_up_doc_01
corn: corn_cob corn_cob_bw pannocchia_di_gran_turc_01
mushroom: champignon_01 mushroom mushroom_benji_park_ toadstool_daniel_steele_r
potato: potato_nicu_buculei_ potato_nicu_buculei_01
onion: onion_joerg_rosenbauer_01
garlic: aglio_architetto_frances_01
bread: bread bread_01
croissant: croissant_01 croissant_b_amp_w__geral_01 croissant_gerald_g._01 Cornetto
cheese: cheese_01
hamburger: burger_http_www.treebui_r burger_linda_kim_01 chicken_burger chicken_burger_bw
  hamburger_bw hamburger_ganson
pizza: pizza_4_stagioni_archite_01 pizza_cheese pizza_cheese_bw pizza_pepperoni pizza_pepperoni_bw
  pizza_slice_01 pizza_slice_fco._andrade_01
hot dog: hot_dog hot_dog_bw hot_dog_juliane_krug_r
sandwich: sandwich_one_bw_jean-vic_01 sandwich_one_jean-victor_01 submarine_sandwich_01 tramezzino
fries: french_fries_juliane_kr_r fries_bw fries_ganson
cake: birthday_cake cake1_jarno_vasamaa_01 cake_etienne_bersac_r cake_jarno_vasamaa_r
  flat_cake_bw_jean-victor_01 flat_cake_jean-victor_ba_01 gateau_jean_victor_balin_
  pink_cake_gabrielle_now_r torta_architetto_frances_01
cupcake: muffin1 muffin1_bw muffin2 muffin2_bw muffin_jean_victor_balin_
cookie: crazy_cookie_dave_pena_01
ice cream: cone1_bw_ganson cone1_ganson cone2_ganson cone3_ganson cone4_ganson cone_alt1 cone_alt_2
  cone_alt3 cone_soft_bw cone_soft_chocolate cone_soft_vanilla gelato_all_39_italiana_a_01
  glace_01_jean-victor_bal_01 glace_03_jean-victor_bal_01 glace_italienne_bw_jean-_01
  glace_italienne_jean-vic_01 ice_cream_cone_linda_kim_01
candy: candy_01 candy_02 candy_10
lollipop: lollipop_dave_pena_01 lollipop_dave_pena_02
cup of coffee: coffee coffee_bw_ganson coffee_ganson cuppa_schwoo_01 mug mug_toh_yen_cheng_01
  mug_toh_yen_cheng_02 tazza_di_caffe_architett_01 teacup_bw teacup_ganson
  zielony_kubek_herbaty_-_01
teapot: a_teapot_01 teapot_ganson
beer: beer beer1
glass of wine: wine wine_glass_christian_h._
pepper: cayenne_pepper_1_simple_01 cayennepepperrevisited_d_01 peperoncino_pepper_fra_
pumpkin: pumpkin2_yemu_01 pumpkin_erik_postma_01 zucca_architetto_frances_01
pretzel: pretzel_01
pancakes: pancake pancake_bw pancakes_bw pancakes_ganson pancakes_berries
bacon: bacon_01 bacon_bw_ganson bacon_ganson
car: 1989_chevrolet_celebrit_01 blazer_01 car car_jamin_ellis_ hummer_01 hummer_03 hummer_05
  redcar_marcelo_caiafa_ skoda_car_alejandro_teja_ sportcar_sergio_luiz_ara_01
  old_car_lumen_design_st_r toyota_land_cruiser_ganson
bus: bus1_bw_jarno_vasamaa_01 bus1_jarno_vasamaa_01 bus2_bw_jarno_vasamaa_01 bus2_jarno_vasamaa_01
  bus_01 bus_symbol_black_01
truck: truck_jarno_vasamaa_ truck_jarno_vasamaa1 old_truck_indana_model__01
  small_truck_steffen_gluc_01 big_truck_01
fire truck: fire_engine_mimooh_01
ambulance: ambulanza
tractor: trattore_architetto_fran_01
bicycle: bicycle_01 bicycle_philippe_colin_01 bicicletta_cycle_archite_01 bike_tobias_jakobs_
  vtt_02
motorcycle: motorcycle_jarno_vasama_
train: kiddy_train_orlando_kara_
airplane: aircraft_jarno_vasamaa1 aircraft_jarno_vasamaa2 aircraft_jarno_vasamaa3
  aircraft_jarno_vasamaa4 aircraft_jarno_vasamaa_ airplane_nicu_buculei_01 military_airplane_mo_01
  plane_in_the_sky_mo_01 plane_silhouet_mo_01 departing_plane_01
rocket: rocket
ship: trawler_01
sailboat: sailboat_illustration boat_jarno_vasamaa1 boat_jarno_vasamaa_
house: casa_dei_sogni_architett_01 casa_in_campagna_archite_01 casa_verde_architetto_fr_01
  chalet_di_montagna_arch_01 home0 home1 home2 home3 home4 home5 home6 house
  house_christoph_brill_01 house_fudriot_omic.ch_01 house_gabrielle_nowicki_ house_juliane_krug_01
  my_house_01 pinkhome small_house_01
castle: ch_teau-fort_01
tent: tenda_da_campeggio_archi_01
church: church_building_01_01
building: Condominio
factory: factory_gabrielle_nowick_ fabbrica_architetto_fran_01
tree: albero_architetto_france_01 arbre_modern_bw_jean-vic_01 arbre_modern_jean-victor_01
  cartoon_tree_01 fall_coloured_tree_geral_01 tree_whit_fruits_01
pine tree: plain_tree_01 simple_evergreen_with_highlights_01 christmas_tree_01 christmas_tree_02
  christmas_tree_mo_01 lightly_decorated_evergreen_01
palm tree: palmtree_b_r_kessels_ island_palm_and_the_sun_01
cactus: cactus_linda_kim_01 cacuts_01
rose: pink-rose_tess_brady_01 rosa1 rosa2 rose
tulip: tulips_ganson
flower: daffodil_jonathan_dietri_01 daffodil_susan_park_01 daisy_jonathan_dietrich_01
  dream_flower_janet_theob_01 fiore_01 fiore_02 flower1_juliane_krug_01 flower2_juliane_krug_01
  flower_01 flower_02 flower_03 flower_peterm_01 full_bloom_linda_kim_01 funnyflower_02
  red_flower_01 red_flower_03 sakura_01
leaf: fall_coloured_leaf_geral_01 fall_coloured_leaf_geral_02 leaf_01 foglie_marroni foglie_rosse
  foglie_arancioni foglie_verdi
sun: sun01 sun02 sun_ff77_01 sun_tatiana_coutinho_01 sunshine_matthew_gates_01
moon: moon01 moon02 moon_jasper_van_de_grond_01
cloud: cloud cloud_jon_phillips_01 w_cloud nuage_guillaume_boitel_
rainbow: rainbow_linda_kim_01
snowman: snowman_01
fire: fire_valessio_soares_de_ flame_jon_phillips_01 fuoco_da_campeggio_archi_01
Earth: earth_globe_dan_gerhrads_01 globe_01 globe_marcelo_staudt_ planet_earth_dan_gerhard_01
  mondo_architetto_frances_01
lightning: lightning_icon_benji_par_01 lightning_jon_phillips_11
man: man_01 man_02 man_face_darek_adamkiewi_01 man01 man02 signore_architetto_franc_01 grandpa_01
woman: woman01 woman02 woman_01 happy_woman_dirk_struve_01 signorina_architetto_fra_01
  blue_girl_dirk_struve_
baby: baby_anthony_liekens_01
hand: hand_dennis_rutjes_01 left_hand_print_benji_pa_01 reminder-hand_benji_park_01
eye: blue_eye_kilian_valkhof_ blue_eye_alex_fernandez_01 eye_nicu_buculei_
  woman_eye_lumen_design_s_01 eye_01
foot: left_foot_print_benji_pa_01
ear: ear_-_body_part_nicu_buc_01
tooth: dente_architetto_frances_01
shoe: tennis_shoe_jarno_vasama_ tennis_shoes_jarno_vasam_
hat: hat_-_clothing_nicu_bucu_01 hat_-_clothing_nicu_bucu_02 hat_-_clothing_nicu_bucu_03
  hat_-_clothing_nicu_bucu_04 hat_01 hat_02 tophat_benji_park_01 red_fedora green_fedora_01
  purple_hat_nicu_buculei_01 slouch_hat_01 sombrero_dave_pena_01
cap: baseball_cap_bw_ganson baseball_cap_ganson
shirt: t-shirt_01 t-shirt_02 t-shirt_03
dress: vestito_rosa
sock: calzettoni
glove: mitten_nathan_eady_01
glasses: sunglasses_01 sunglasses_linda_kim_01
boot: hiking_boot_jarno_vasama_
hammer: construction_hammer_jon__01 hammer_nicu_buculei_01 hammer_peterm1 blacksmith_hammer_ganson
  wooden_mallot_benji_park_
screwdriver: screwdriver_peterm_
axe: axe_peterm_
scissors: scissors scissors_01 scissors_forbici_franc_
pencil: pencil_01 pencil_benji_park_01 pencil_jonathan_dietrich_01 pen_pencil_darkon_01
paintbrush: brush paint_brush_linda_kim_01 paint_brush_costea_bogda_01 pennello_mauro_olivo_01
magnifying glass: magnifying_glass_01 magnifying_glass_olivier_01 magnifying_glass_teudimu_01
  magnifing_glass_gino_riv_01 magnifying_glass_tom_kra_ mag1 lens_lente_francesco_ro_r
microscope: microscopio_architetto_f_01
telescope: telescope_01 spyglass_vladimir_hernan_01
saw: saw_peterm_ bowsaw_benji_park_01 sega_per_legno utensile_sega_architetto_01
syringe: siringa_architetto_franc_01
guitar: bass_guitar_a.j._ashton_ electric_guitar_andrea__01r guitar_ganson guitar_jarno_vasamaa1
  guitar_jarno_vasamaa2 guitar_profile_philippe__01
drum: africandrum_benji_park1 africandrum_benji_park_
trumpet: trumpet_b_flat__ganson trumpet_b_flat_colour_ganso trumpet_pocket__ganson
  trumpet_herald__ganson tpt_cubf_ganson
violin: violin_colour_ganson violin_ganson violin_mo_01 cello_ganson cello_mo_01 cello_mo_02
piano: piano_geraint_luff_01 piano_keys_jonathan_diet_01
saxophone: saxophone_jarno_vasamaa_
chair: sedia_in_legno_architett_01 poltrona_ufficio_archite_01
umbrella: umbrella canada_umbrella_ganson
book: book_01 book_02 closed_book_01 closed_bible_01_01 open_book_01 open_book_02 open_book_nae_02
  paperback_book_black_gal_ old_book_lumen_design_st_01 diary_costea_bogdan_01
clock: alarm_clock_gerald_g._01 alarm_clock_gerald_g._02 alarm_clock_mike_powers_
  analog_clock_jonathan_di_01 analogue_clock_01 clock01 clock04 clock07 clock_michael_breuer_01
  modern_clock_chris_kemps_01 orologio_da_parete_archi_01
phone: cellular_phone_shandy_br_ handphone_toh_yen_cheng_01 mobile mobile_phone_01
  slim_cell_phone_israel_c_01 handphone_2_toh_yen_chen_01 sprint_cell_phone_joel_r
telephone: phone phone_handset_gray_einar_01 red_telephone_mimooh_01 telephone_receiver_01
  classic_phone_zazou
laptop: laptop laptop_01 laptop_02 notebook1_sergio_luiz_ar_02
television: television_alexander_d.__01 television_peterm_ tv_01 tv_zazou
camera: camera_icon_stuart_moore_01 camera_michael_tunniclif_01 macchina_fotografica_di_01
  digital-camera_aj_ashton_01 digital_camera_nicu_bucu_01
keyboard: computer_keyboard_01 keyboard keyboard_01
printer: printer printer_anton_yu_01 printer_nicu_buculei_01 laserprinter
  stampante_architetto_fra_01 printer1
light bulb: bulb lightbulb_brightlit_benj_ lightbulb_jon_phillips_01 lightbulb_jon_phillips_03
  lightbulb_lit_benji_park_ lightbulb_notlit_benji_p_
candle: candela
key: chiave_architetto_france_01
lock: lock padlock_aj_ashton_01 padlock_silhouette_a.j.__01 lucchetto_grigio_archite_01
  lucchetto_ottone_archite_01
gift: gift01 gift02 gift03 gift04 gift05 pacco_regalo_architetto__01
balloon: balloon-black-aj balloon-blue-aj balloon-red-aj balloon-yellow-aj balloons-aj balloons_01
  baloon1_01 baloon1_03 baloon2_02 baloon2_04
teddy bear: simple_teddy_bear_gerald_01 simple_teddy_bear_with__01 stylized_teddy_bear_gera_01
  stylized_teddy_bear_wit_01 teddybear_jarno_vasamaa_
soccer ball: soccer_ball_ganson soccer_ballon_tanguy_jac_
football: rugby_brice_boyer_01
handbag: borsetta borsa_estiva_architetto__01 straw_tote_linda_kim_01
backpack: zaino_per_montagna
crown: bejewelled_crown_with_t_01 simple_crown_with_one_r_01 simple_crown_with_three_01 couronne_01
ring: wedding_rings_jarno_vas1 wedding_rings_jarno_vas_
basket: cesto_architetto_frances_01
trash can: cestino_vuoto_architetto_01 cestino_pieno_architetto_01
broom: broom_nicu_buculei_01
envelope: envelop_rikva_01 envelope_01 envelope_juliane_krug_01 addressed_envelope_with_stamp_01
  lettera_architetto_franc_01 mail1 mail2
newspaper: newspaper_aubanel_monnie_01 newspaper_nicu_buculei_01
trophy: trophy
dice: dice
robot: saku_robot__anton_yu_01 robot_ganson
skull: skull_charles_mccolm_01 cute_skull_fredrik_holmq_01 skull-and-bones-aj_aj_as_01
anchor: anchor_juliane_krug_01 anchor
ladder: scala_doppia
magnet: calamita_architetto_fran_01
traffic light: traffic_light_dan_gerhar_01 traffic_light_green_dan__01 traffic_light_red_dan_ge_01
  traffic_light_yellow_dan_01
mailbox: mailbox1 mailbox2 mailbox3
baseball: baseball_anthony_liekens_01 baseball_bw_ganson basebalm_ganson
hourglass: clessidra_architetto_fra_01 sand_glass_frederic_mose_01 sandglass_vermin_
bottle: bottle_jean_victor_balin_ baby_bottle_01 biberon bottled_drink bottled_drink_bw
coin: penny_front_jonadab_the__01 gold_coins_in_a_stack_jo_01
battery: battery_01 battery_jean-victor_bali_01 battery_snuatautisticido_01
  battery_snuatautisticido_02
feather: feather
toothbrush: toothbrush_and_paste_ganson
bucket: secchio_e_spugna_archite_01
stethoscope: stetoscopio_fonendoscopio
"""


class ClipArt:
    """The drawings, by thing.

    Args:
        folder: where downloads live.

    Raises:
        AssetError: the package cannot be had, or lacks a drawing.
    """

    lines = False

    def __init__(self, folder: Path) -> None:
        root = unpack(OPEN_CLIP_ART, folder) / _FOLDER
        files = {path.stem: path for path in sorted(root.rglob("*.png"))}
        self._slugs: dict[str, tuple[str, ...]] = {}
        for line in _DRAWINGS.replace("\n  ", " ").strip().splitlines():
            thing, _, slugs = line.partition(": ")
            self._slugs[thing] = tuple(slugs.split())
        wanted = {slug for slugs in self._slugs.values() for slug in slugs}
        if missing := wanted - files.keys():
            raise AssetError(f"{OPEN_CLIP_ART.path} has no {', '.join(sorted(missing))}")
        self._paths = {slug: files[slug] for slug in wanted}

    def slugs(self, thing: str) -> tuple[str, ...]:
        """List the drawings of a thing."""
        return self._slugs.get(thing, ())

    def icon(self, slug: str) -> Image.Image:
        """Return a drawing, RGBA, without empty borders."""
        return open_cropped(self._paths[slug], _PIXELS)
